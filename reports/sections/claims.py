"""The textbook: each claim with its verdict, and the evidence against the bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Text
from bakeoff.reports.rows import Row, plain
from bakeoff.reports.section import Section
from bakeoff.reports.units import human
from bakeoff.reports.words import plural
from bakeoff.suites.records import CELL_METRIC

NAME = "claims"
_MARKS = {"holds": "✓", "does not hold": "✗", "undecided": "?"}
_LEGEND = (
    "Each claim is an experiment over several seeds. A number is the mean over seeds (of a ratio "
    "the geometric one) with its interval by Student's t, all intervals of one claim together at "
    "95%; one without an interval is counted. A claim holds where each interval lies on the right "
    "side of its bound (✓), does not where one lies on the wrong side (✗), and is undecided else "
    "(?). The bounds stand in the claims."
)


@dataclass
class _Claim:
    """One cell.

    Args:
        name: Of the claim.
        number: Its place in the textbook; infinite where it has none.
        run: What tells it from the same claim in another cell.
        verdict: What is said; a status where it could not be judged.
        reason: Why it could not.
        statement: What is claimed.
        source: Who says so.
        criteria: Their names, in the order in which the claim states them.
        evidence: A row for each criterion.
    """

    name: str
    number: float
    run: str
    verdict: str = ""
    reason: str = ""
    statement: str = ""
    source: str = ""
    criteria: list[str] = field(default_factory=list)
    evidence: list[Row] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Number and name."""
        return self.place + self.name.replace("_", " ")

    @property
    def place(self) -> str:
        """The number, where it has one."""
        return "" if self.number == math.inf else f"{self.number:g}. "

    @property
    def holding(self) -> str:
        """How many of its criteria hold."""
        holding = sum(row.reason.startswith("holds: ") for row in self.evidence)
        return f"{holding} of {len(self.evidence)}" if self.evidence else "-"


def blocks(rows: Sequence[Row], wrong: Mapping[str, str]) -> Iterator[Block]:
    """The table of verdicts, and the evidence of each claim."""
    claims = sorted(_claims(rows), key=lambda claim: claim.number)
    yield Text((f"{plural(len(claims), 'claim')}: {_counts(claims)}.",))
    several = len({claim.run for claim in claims}) > 1
    yield Grid(
        ("statement", "verdict", "criteria\nthat hold", *(("run",) if several else ())),
        tuple(
            (
                Code(claim.place + claim.statement if claim.statement else claim.title),
                claim.verdict,
                claim.holding,
                *((claim.run,) if several else ()),
            )
            for claim in claims
        ),
    )
    yield Heading(3, "Evidence")
    yield Text((_LEGEND,))
    for claim in claims:
        yield Heading(4, f"{claim.title}: {claim.verdict}")
        yield Text((Code(claim.source), f" ({claim.run})." if claim.source else f"{claim.run}."))
        if claim.reason:
            yield Text((Code(claim.reason),))
        if claim.evidence:
            yield Grid(
                ("evidence", "bound", "found"),
                tuple(_evidence(row) for row in claim.evidence),
            )


def _counts(claims: Sequence[_Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    several = {"holds": "hold", "does not hold": "do not hold"}
    counts = ((verdicts.count(v), v) for v in dict.fromkeys((*_MARKS, *sorted(verdicts))))
    return ", ".join(f"{n} {v if n == 1 else several.get(v, v)}" for n, v in counts if n)


def _claims(rows: Sequence[Row]) -> list[_Claim]:
    found: dict[int, _Claim] = {}
    for row in rows:
        if row.cell not in found:
            found[row.cell] = _Claim(*_identity(row))
        claim = found[row.cell]
        match row.metric:
            case "verdict":
                claim.verdict = row.reason
            case "statement":
                claim.statement = row.reason
            case "source":
                claim.source = row.reason
            case "criteria":
                claim.criteria = row.reason.split(", ")
            case name if name == CELL_METRIC:
                claim.verdict, claim.reason = row.status, row.reason
            case _:
                claim.evidence.append(row)
    for claim in found.values():
        places = {name: i for i, name in enumerate(claim.criteria)}
        claim.evidence.sort(key=lambda row: places.get(row.metric, len(places)))
    return list(found.values())


def _identity(row: Row) -> tuple[str, float, str]:
    """(name, number, what tells the cell from others of the same claim)."""
    extra = plain(row.axes["extra"])
    seeds = plural(len(extra.get("seeds", ())), "seed")
    device = "" if row.axes["device"] == "cpu" else f", {row.axes['device']}"
    number = extra.get("number", math.inf)
    return str(row.axes["forward"]), number, f"{extra.get('scale')}, {seeds}{device}"


def _evidence(row: Row) -> tuple[str, str, str]:
    """The number against its bound; the reason of its record tells the verdict and both."""
    verdict, bound, says = row.reason.split(": ", 2)
    assert row.value is not None
    found = human(row.value, row.unit)
    if row.low is not None or row.high is not None:
        low, high = ("∞" if end is None else human(end, row.unit) for end in (row.low, row.high))
        found += f" [{low}, {high}]"
    return Code(f"{_MARKS[verdict]} {says}"), bound, found


SECTION = Section("The textbook", 30, lambda row: row.axes["suite"] == NAME, blocks)
