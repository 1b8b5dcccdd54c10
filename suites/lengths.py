"""Races over lengths: the times of all rivals of one case at each, and where one overtakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bakeoff.registry.shapes import Case, Shape
from bakeoff.suites.calls import Call
from bakeoff.suites.clocks import clock_for
from bakeoff.suites.differences import difference
from bakeoff.suites.grids import positions, resized
from bakeoff.suites.growth import LEAST_LENGTHS, crossover, fit
from bakeoff.suites.race import LEAST_ROUNDS, Race
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.rivals import TWIN, baseline_for, options_of, prepared
from bakeoff.suites.spec import Job
from bakeoff.suites.statistics import floor_of, median, median_ratio
from bakeoff.suites.timed_outputs import TimedOutputs

__all__ = ["at_length", "lengths_of", "raced"]

#: An exponent whose interval is wider says nothing: it would not tell N from N².
WIDEST = 2.0
#: The part of the budget that a race of one rival takes, which narrows a crossover down.
NARROWING = 0.1


def at_length(case: Case, n: int) -> Case:
    """The same case at another length; as many keys a query as before."""
    shape = case.shape
    if not isinstance(shape, Shape):
        return replace(case, shape=replace(shape, seq_len=n))
    if case.pattern == "decode":
        return replace(case, shape=replace(shape, k_len=n))
    keys = max(1, round(shape.k_len * n / shape.q_len))
    if shape.grid:
        grid = resized(shape.grid, keys)
        n = positions(grid) if case.pattern == "self" else n
        return replace(case, shape=replace(shape, q_len=n, k_len=positions(grid), grid=grid))
    return replace(case, shape=replace(shape, q_len=n, k_len=keys))


def lengths_of(cell: Cell) -> list[int]:
    """The lengths that a cell spans."""
    return [int(n) for n in str(cell.extra["lengths"]).split(",")]


@dataclass
class _Rival:
    """One rival on its way through the lengths.

    Args:
        seconds: Median times by length.
        verdicts: What its ratio to the baseline says, by length.
        stopped: Why longer ones were left out.
        failed: What became of it where it did not run at all lengths that were tried.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    verdicts: dict[int, str] = field(default_factory=dict)
    stopped: str = ""
    failed: Record | None = None


def raced(job: Job, cells: Sequence[Cell]) -> Iterator[Record]:
    """Race the rivals at one length after the other, each as far as it can be afforded."""
    rivals = {cell: _Rival() for cell in cells}
    for n in lengths_of(cells[0]):
        for rival in rivals.values():
            rival.stopped = rival.stopped or _too_long(rival, n, job.settings["budget"])
        left = [cell for cell, rival in rivals.items() if not rival.stopped]
        for cell, (seconds, verdict) in _race(job, left, n, rivals).items():
            rivals[cell].seconds[n], rivals[cell].verdicts[n] = seconds, verdict
    for cell, rival in rivals.items():
        if rival.failed:
            yield rival.failed
            continue
        yield _exponent(cell, rival)
        if cell.label != job.settings["baseline"]:
            crossover = _crossover(job, cell, rival)
            yield rival.failed or crossover  # a race that narrowed it down may have failed


def _too_long(rival: _Rival, n: int, budget: float) -> str:
    """Why this length is left out: judged by the last, as if time grew with the square."""
    if not rival.seconds:
        return ""
    last = max(rival.seconds)
    if rival.seconds[last] * (n / last) ** 2 * LEAST_ROUNDS <= budget:
        return ""
    return f"N = {n} and above would take longer than the budget of {budget:g} s allows"


def _race(
    job: Job, cells: Sequence[Cell], n: int, rivals: Mapping[Cell, _Rival], share: float = 1.0
) -> dict[Cell, tuple[float, str]]:
    """The time of each at this length, and how it compares to the baseline; empty without one."""
    calls: dict[Cell, Call] = {}
    for cell in cells:
        job.announce(cell)
        at = replace(cell, case=at_length(cell.case, n))
        found = prepared(job.catalog, at, calls.values())
        if isinstance(found, Call):
            calls[cell] = found
            continue
        rivals[cell].stopped = f"N = {n}: {found.reason}"
        if found.status not in (Status.OOM, Status.UNSUPPORTED):
            rivals[cell].failed = whole_cell(cell, found.status, rivals[cell].stopped)
    if not calls:
        return {}
    label = job.settings["baseline"]
    names = {cell: cell.label + options_of(cell) for cell in calls}
    running = {names[cell]: call for cell, call in calls.items()}
    first = next(iter(calls))
    at = replace(first, case=at_length(first.case, n))
    for name in (label, TWIN):
        baseline = baseline_for(job.catalog, at, label, calls.values())
        if isinstance(baseline, Call):
            running[name] = baseline
    of = {name: cell for cell, name in names.items()}

    def announce(name: str) -> None:
        job.announce(of.get(name, first))

    outputs = TimedOutputs(running, announce)
    race = Race(
        {name: call.timed for name, call in running.items()},
        label if label in running else next(iter(running)),
        steady=(TWIN,),
        budget=job.settings["budget"] * share,
        precision=job.settings["precision"],
        clock=clock_for(first.case.device, cold=False),
        seed=first.case.seed,
        announce=announce,
        renew=outputs.renew,
        look=outputs.look,
    )
    race.run()
    outputs.finish()
    floor = floor_of(median_ratio(*race.paired(TWIN))) if TWIN in running else None
    if outputs.fault(label):
        floor = None
    points: dict[Cell, tuple[float, str]] = {}
    for cell in calls:
        record = outputs.record(names[cell], cell)
        if record.status == Status.WRONG:
            rivals[cell].stopped = f"N = {n}: {record.reason}"
            rivals[cell].failed = replace(record, reason=rivals[cell].stopped)
        else:
            points[cell] = _point(race, names[cell], floor)
    return points


def _point(race: Race, name: str, floor: float | None) -> tuple[float, str]:
    """The time, and what its ratio says above the noise floor; nothing without a baseline."""
    seconds = median(race.paired(name)[0]).value
    if floor is None:
        return seconds, ""
    ratio = median_ratio(*race.paired(name))
    return seconds, difference(ratio.low, ratio.high, floor)


def _crossover(job: Job, cell: Cell, rival: _Rival) -> Record:
    """From which length on it is faster than the baseline, narrowed down by races of its own."""
    label = job.settings["baseline"]
    if not rival.verdicts or not all(rival.verdicts.values()):
        reason = f"{label} does not run here" if rival.verdicts else rival.stopped
        return Record(cell, "crossover_length", status=Status.UNSUPPORTED, reason=reason)

    def verdict(n: int) -> str:
        found = _race(job, [cell], n, {cell: rival}, NARROWING)
        return found[cell][1] if found else "undecided"

    found = crossover(rival.verdicts, verdict)
    reason = f"against {label}" + ("" if found.value else f": {found.said}")
    low, high = (found.low, found.high) if found.value else (None, None)
    return Record(cell, "crossover_length", found.value, "", low, high, reason=reason)


def _exponent(cell: Cell, rival: _Rival) -> Record:
    """How the times grow, where that can be said."""
    found = fit(list(rival.seconds), list(rival.seconds.values()))
    count = len(rival.seconds)
    told = f"; {rival.stopped}" if rival.stopped else ""
    if found is None:
        reason = f"undetermined: {count} lengths, at least {LEAST_LENGTHS} are needed{told}"
        return Record(cell, "time_exponent", None, n=count, reason=reason)
    if found.high - found.low > WIDEST:
        ends = f"exponents from {found.low:.1f} to {found.high:.1f} fit {count} times"
        return Record(cell, "time_exponent", None, n=count, reason=f"undetermined: {ends}{told}")
    law = f"{found.factor:.2g} s · N^p" + (f" + {found.constant:.2g} s" if found.constant else "")
    reason = f"{law}, {min(rival.seconds)} to {max(rival.seconds)}{told}"
    interval = (found.exponent, "", found.low, found.high, count)
    return Record(cell, "time_exponent", *interval, reason=reason)
