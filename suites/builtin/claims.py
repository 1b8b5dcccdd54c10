"""Claims: the textbook's statements, each with its evidence and a verdict."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError, UsageError
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.suites.claims.claim import CLAIM, Claim, claims_of
from bakeoff.suites.claims.judging import Evidence, Verdict, judged, verdict_of
from bakeoff.suites.metrics import Metric
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.verdicts import Unsupported, brief, status_of

NAME, VERSION = "claims", 1
#: The evidence of a claim stands under the names of its criteria.
METRICS = {
    "verdict": Metric(
        "1 where the claim holds, 0 where it does not; none where it is undecided.", varies="seed"
    )
}

#: A verdict as a number; one that is undecided has none.
VALUES = {Verdict.HOLDS: 1.0, Verdict.FALSE: 0.0}


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a claim and device: its seeds are samples, and no axis."""
    if len(selection.seeds) < 2:
        raise UsageError(
            f"seeds: got {selection.seeds}, expected at least 2 for the suite claims: a verdict "
            "comes from an interval over seeds"
        )
    claims = claims_of(catalog, selection.claims).values()
    # Those that are not timed run side by side, as far as they stand side by side.
    for claim in sorted(claims, key=lambda claim: claim.timed):
        for device, threads in itertools.product(selection.devices, selection.threads):
            case = Case(kind="claim", shape=FeatureShape(1, 1, 1), device=device, threads=threads)
            extra: dict[str, Any] = {"scale": selection.scale, "seeds": list(selection.seeds)}
            if claim.number is not None:
                extra["number"] = claim.number
            cell = Cell(NAME, VERSION, CLAIM, claim.name, case, extra)
            yield Job((cell,), untimed=not claim.timed)


def measure(job: Job) -> Iterator[Record]:
    """Judge each claim; one that can't be judged says why."""
    for cell in job.cells:
        claim = claims_of(job.catalog, [cell.forward])[cell.forward]
        job.announce(cell)
        try:
            _require(claim, job.catalog)
            found = judged(
                claim,
                job.catalog,
                seeds=cell.extra["seeds"],
                scale=cell.extra["scale"],
                device=cell.case.device,
                alive=partial(job.announce, cell),
            )
        except (Unsupported, UnsupportedError) as answer:
            yield whole_cell(cell, Status.UNSUPPORTED, str(answer))
        except Exception as error:
            yield whole_cell(cell, status_of(error), brief(error))
        else:
            yield from _verdict(cell, found)
        yield Record(cell, "statement", reason=claim.statement)
        yield Record(cell, "source", reason=claim.source)
        yield Record(cell, "criteria", reason=", ".join(c.name for c in claim.criteria))


def _require(claim: Claim, catalog: Catalog) -> None:
    """Whether there is what the claim is about, and what it imports."""
    for role, name in claim.roles.items():
        if name not in catalog:
            raise Unsupported(f"the claim is about {name} (as its {role}), which is not registered")
    for package in claim.needs:
        if importlib.util.find_spec(_module_of(package)) is None:
            raise Unsupported(f"the claim needs {package}: pip install {package}")


def _module_of(package: str) -> str:
    return {"scikit-learn": "sklearn"}.get(package, package.replace("-", "_"))


def _verdict(cell: Cell, found: list[Evidence]) -> Iterator[Record]:
    said = verdict_of(found)
    yield Record(cell, "verdict", VALUES.get(said), reason=said)
    for one in found:
        criterion = one.criterion
        # An interval may reach to infinity, which is no number of a record.
        low, high = (end if math.isfinite(end) else None for end in (one.low, one.high))
        yield Record(
            cell,
            criterion.name,
            one.value,
            criterion.unit,
            low if one.n else None,
            high if one.n else None,
            one.n,
            reason=f"{one.verdict}: {criterion.bound}: {criterion.says}",
        )


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "The textbook's statements, put to the test: holds, does not hold or undecided.",
        plan,
        measure,
        metrics=METRICS,
        on_request=True,
    )
