"""Speed: every rival of one case in one race, as a ratio to the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.calls import Call
from bakeoff.suites.race import Race
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.selection import Selection, expand
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.statistics import Estimate, median, median_ratio
from bakeoff.suites.tensors import why_not
from bakeoff.suites.verdicts import brief, status_of

NAME, VERSION = "speed", 1

#: What the rivals of each kind are compared with.
BASELINES = {
    "activation": "relu:torch",
    "attention": "scaled_dot_product:sdpa",
    "connection": "residual:reference",
}
#: The baseline again, as a rival of itself: how far apart two equals come out.
TWIN = "the baseline again"


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a case, with all its rivals."""
    races: dict[str, list[Cell]] = {}
    for cell in expand(NAME, VERSION, catalog, selection):
        # Options differ from variant to variant; everything else makes the case.
        races.setdefault(repr(replace(cell.case, options={})), []).append(cell)
    for cells in races.values():
        baseline = BASELINES[cells[0].case.kind]
        yield Job(tuple(cells), {"budget": selection.budget, "baseline": baseline})


def measure(job: Job) -> Iterator[Record]:
    """Prepare every rival, race those that run, and give each its records."""
    calls: dict[Cell, Call] = {}
    for cell in job.cells:
        job.announce(cell)
        prepared = _prepare(job.catalog, cell)
        if isinstance(prepared, Record):
            yield prepared
        else:
            calls[cell] = prepared
    if calls:
        yield from _race(job, calls)


def _prepare(catalog: Catalog, cell: Cell) -> Call | Record:
    variant = catalog[cell.variant]
    reason = why_not(variant, cell.forward, cell.case)
    if reason:
        return whole_cell(cell, Status.UNSUPPORTED, reason)
    try:
        return Call.of(variant, cell)
    except Exception as error:
        return whole_cell(cell, status_of(error), brief(error))


def _race(job: Job, calls: dict[Cell, Call]) -> Iterator[Record]:
    label = job.settings["baseline"]
    laps = {cell.label + _options(cell): call.timed for cell, call in calls.items()}
    cells = dict(zip(laps, calls, strict=True))
    baseline = _baseline(job, calls)
    if isinstance(baseline, Call):
        laps[label] = laps[TWIN] = baseline.timed
        reference = label
    else:
        reference = next(iter(laps))
    race = Race(
        laps,
        reference,
        twin=TWIN,
        budget=job.settings["budget"],
        device=job.cells[0].case.device,
        seed=job.cells[0].case.seed,
        announce=partial(_announce, job, cells),
    )
    race.run()
    floor = median_ratio(*race.paired(TWIN)) if isinstance(baseline, Call) else None
    for name, cell in cells.items():
        own, paired = race.paired(name)
        yield from _time_records(cell, median(own))
        if calls[cell].compile_seconds is not None:
            yield Record(cell, "compile_time", calls[cell].compile_seconds, "s", n=1)
        if floor:
            yield _record(cell, "ratio", median_ratio(own, paired), reason=f"to {label}")
            yield _noise_floor(cell, floor)
        else:
            yield Record(cell, "ratio", status=Status.UNSUPPORTED, reason=str(baseline))


def _options(cell: Cell) -> str:
    """Tells apart the rivals of one variant in a sweep of its options."""
    return "".join(f" {name}={value}" for name, value in cell.case.options.items())


def _announce(job: Job, names: dict[str, Cell], name: str) -> None:
    if name in names:
        job.announce(names[name])


def _baseline(job: Job, calls: dict[Cell, Call]) -> Call | str:
    """The baseline on the same case, one of the rivals or not; or why there is none."""
    label = job.settings["baseline"]
    name, _, forward = label.partition(":")
    rival = next((cell for cell in calls if cell.label == label), next(iter(calls)))
    if rival.label == label:
        return calls[rival]
    if name not in job.catalog:
        return f"the baseline {label} is not registered"
    variant = job.catalog[name]
    case = replace(rival.case, options=dict(variant.options))
    prepared = _prepare(job.catalog, replace(rival, variant=name, forward=forward, case=case))
    if isinstance(prepared, Record):
        return f"the baseline {label} does not run here: {prepared.reason}"
    return prepared


def _time_records(cell: Cell, seconds: Estimate) -> Iterator[Record]:
    yield _record(cell, "time", seconds, "s")
    tokens = cell.case.shape.tokens
    # The interval turns round: the longest time is the lowest rate.
    rate = Estimate(tokens / seconds.value, tokens / seconds.high, tokens / seconds.low, seconds.n)
    yield _record(cell, "tokens_per_second", rate, "1/s")


def _noise_floor(cell: Cell, twin: Estimate) -> Record:
    """The farthest from 1 that the baseline's ratio to itself may lie, as a ratio above 1."""
    floor = math.exp(max(abs(math.log(twin.low)), abs(math.log(twin.high))))
    return Record(cell, "noise_floor", floor, n=twin.n)


def _record(cell: Cell, metric: str, estimate: Estimate, unit: str = "", **more: Any) -> Record:
    return Record(
        cell, metric, estimate.value, unit, estimate.low, estimate.high, estimate.n, **more
    )


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "What it costs in time: races against a fixed baseline.",
        plan,
        measure,
    )
