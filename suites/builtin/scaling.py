"""Scaling: how FLOPs, bytes and times grow with the length, and where a rival overtakes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Forward, Variant
from bakeoff.suites.calls import Call
from bakeoff.suites.clocks import clock_for
from bakeoff.suites.counting import Count, counted, will_not_fit
from bakeoff.suites.differences import difference
from bakeoff.suites.grids import positions, resized
from bakeoff.suites.growth import LEAST_LENGTHS, crossover, fit, grows_as, slope
from bakeoff.suites.race import LEAST_ROUNDS, Race
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.rivals import TWIN, baseline_for, baseline_of
from bakeoff.suites.selection import Selection, expand
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.statistics import Estimate, floor_of, median, median_ratio
from bakeoff.suites.tensors import why_not
from bakeoff.suites.verdicts import brief, status_of

NAME, VERSION = "scaling", 1

#: Lengths at which costs are counted, as far as the time allows.
COUNTED = (512, 1024, 2048, 4096)
COUNTING_SECONDS = 3.0
#: Declared FLOPs may exceed counted ones by rounding only, and be half of them at the least: a
#: block that reaches beyond its window computes what nobody asked for.
MOST_FLOPS, LEAST_FLOPS = 1.05, 0.5
#: An exponent whose interval is wider says nothing: it would not tell N from N².
WIDEST = 2.0


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """Counts of each forward, and a job for the times of each attention over all lengths.

    The costs of activations and connections are the same for every row, so that their times say
    nothing that one length does not; they are counted where a forward declares how they grow.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in expand(NAME, VERSION, catalog, selection, directions=("forward", "training")):
        forward = catalog[cell.variant].forward(cell.forward)
        if cell.case.kind == "attention" or _declares(forward):
            groups.setdefault(repr(replace(cell, case=at_length(cell.case, 64))), []).append(cell)
    counts = [_spanning(group, "counts", COUNTED) for group in groups.values()]
    # Costs are counted on plain tensors of one dtype, whatever the mode.
    seen = {repr(replace(c, case=replace(c.case, mode="eager", threads=1))): c for c in counts}
    for _, cells in groupby(seen.values(), key=lambda c: (c.case.kind, c.case.device)):
        yield Job(tuple(cells))
    for group in groups.values():
        if group[0].case.kind == "attention":
            lengths = sorted({cell.case.seq_len for cell in group})
            settings = {"budget": selection.budget, "precision": selection.precision}
            baseline = baseline_of(catalog, "attention", selection.baseline)
            yield Job((_spanning(group, "times", lengths),), {**settings, "baseline": baseline})


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


def _declares(forward: Forward) -> bool:
    return any((forward.complexity, forward.memory, forward.flops, forward.min_bytes))


def _spanning(group: list[Cell], check: str, lengths: Iterable[int]) -> Cell:
    """One cell for all lengths, at the place of the largest."""
    lengths = list(lengths)
    extra = {"check": check, "lengths": ",".join(map(str, lengths))}
    return replace(group[0], case=at_length(group[0].case, lengths[-1]), extra=extra)


def measure(job: Job) -> Iterator[Record]:
    """Counts or times, as the cell asks."""
    for cell in job.cells:
        job.announce(cell)
        variant = job.catalog[cell.variant]
        reason = why_not(variant, cell.forward, cell.case)
        if reason:
            yield whole_cell(cell, Status.UNSUPPORTED, reason)
            continue
        try:
            records = _counts(cell, variant) if cell.extra["check"] == "counts" else _times(job)
            yield from list(records)
        except Exception as error:
            yield whole_cell(cell, status_of(error), brief(error))


# Counts


def _counts(cell: Cell, variant: Variant) -> Iterator[Record]:
    """What a forward declares, judged by counting."""
    forward = variant.forward(cell.forward)
    counts: dict[int, Count] = {}
    end = time.monotonic() + COUNTING_SECONDS
    for n in COUNTED:
        counts[n] = counted(variant, cell.forward, at_length(cell.case, n))
        if time.monotonic() > end and len(counts) > 1:
            break
    lengths = list(counts)
    if cell.case.direction == "training":
        peaks = [float(count.peak_bytes) for count in counts.values()]
        # A block of fixed size outweighs what grows until the length is large.
        yield _growth(cell, "bytes_exponent", forward.memory, lengths, peaks, may_lag=2.0)
        return
    flops = [count.flops for count in counts.values()]
    # Projections grow with N alone, however large they are beside the square.
    yield _growth(cell, "flops_exponent", forward.complexity, lengths, flops, may_lag=0.5)
    case, most = at_length(cell.case, lengths[-1]), counts[lengths[-1]]
    if forward.flops:
        yield _flops(cell, forward.flops(case), most.flops, case)
    if forward.min_bytes:
        yield _bytes(cell, forward.min_bytes(case), most.moved_bytes)


def _growth(
    cell: Cell,
    metric: str,
    declared: str | None,
    lengths: list[int],
    costs: list[float],
    may_lag: float,
) -> Record:
    """The exponent of a cost: not above what is declared, nor further below than it may lag."""
    found = slope(lengths, costs)
    reason = f"from {lengths[-2]} to {lengths[-1]}"
    if cell.case.pattern == "decode" or declared is None:
        return Record(cell, metric, found, reason=reason)  # nothing is declared for this
    if not any(costs):
        return Record(cell, metric, None, reason="nothing that can be counted")
    right = grows_as(declared, lengths, costs, may_lag)
    status = Status.OK if right else Status.WRONG
    return Record(cell, metric, found, status=status, reason=f"declared {declared}, {reason}")


def _flops(cell: Cell, declared: float, found: float, case: Case) -> Record:
    """No more than what was done, and not much less; a causal mask hides part of it."""
    if not found:
        return Record(cell, "flops_declared", None, reason="nothing that can be counted")
    shape = case.shape
    visible = 1.0
    if isinstance(shape, Shape):
        visible = case.visible_pairs / (shape.q_len * shape.k_len)
    right = LEAST_FLOPS * visible <= declared / found <= MOST_FLOPS
    status = Status.OK if right else Status.WRONG
    reason = f"declared {declared:.4g}, counted {found:.4g} at N = {case.seq_len}"
    return Record(cell, "flops_declared", declared / found, status=status, reason=reason)


def _bytes(cell: Cell, declared: float, found: float) -> Record:
    """No more than what its operations moved one by one."""
    status = Status.OK if 0 < declared <= found else Status.WRONG
    reason = f"declared at least {declared:.4g}, moved {found:.4g}"
    return Record(cell, "bytes_declared", declared / found, status=status, reason=reason)


# Times


@dataclass(frozen=True)
class _Point:
    """One length: the rival's time, and what its ratio to the baseline says."""

    seconds: Estimate
    verdict: str


def _times(job: Job) -> Iterator[Record]:
    """Races against the baseline from the shortest length on, while they can be afforded."""
    cell = job.cells[0]
    lengths = [int(n) for n in str(cell.extra["lengths"]).split(",")]
    share = job.settings["budget"] / len(lengths)
    points: dict[int, _Point] = {}
    left_out = ""
    for n in lengths:
        if points and (left_out := _too_long(points, n, job.settings["budget"])):
            break
        if (
            left_out := will_not_fit(
                job.catalog[cell.variant], cell.forward, at_length(cell.case, n)
            )
            or ""
        ):
            break
        points[n] = _race(job, cell, n, share)
    yield _exponent(cell, points, left_out)
    if cell.label == job.settings["baseline"]:
        return
    if any(not point.verdict for point in points.values()) or not points:
        reason = f"{job.settings['baseline']} does not run here"
        yield Record(cell, "crossover_length", status=Status.UNSUPPORTED, reason=reason)
        return
    found = crossover(
        {n: point.verdict for n, point in points.items()},
        lambda n: _race(job, cell, n, share).verdict,
    )
    reason = f"against {job.settings['baseline']}" + ("" if found.value else f": {found.said}")
    low, high = (found.low, found.high) if found.value else (None, None)
    yield Record(cell, "crossover_length", found.value, "", low, high, reason=reason)


def _too_long(points: dict[int, _Point], n: int, budget: float) -> str:
    """Why the next length is left out: judged by the last, as if time grew with the square."""
    last = max(points)
    seconds = points[last].seconds.value * (n / last) ** 2
    if seconds * LEAST_ROUNDS <= 2 * budget:
        return ""
    return f"N = {n} and above would take longer than the budget of {budget:g} s allows"


def _race(job: Job, cell: Cell, n: int, budget: float) -> _Point:
    at = replace(cell, case=at_length(cell.case, n))
    call = Call.of(job.catalog[cell.variant], at)
    laps = {"rival": call.timed}
    label = job.settings["baseline"]
    if cell.label != label:
        baseline = baseline_for(job.catalog, at, label)
        if isinstance(baseline, Call):
            laps |= {label: baseline.timed, TWIN: baseline.timed}
    race = Race(
        laps,
        label if label in laps else "rival",
        steady=(TWIN,),
        budget=budget,
        precision=job.settings["precision"],
        clock=clock_for(cell.case.device, cold=False),
        seed=cell.case.seed,
        announce=lambda name: job.announce(cell),
    )
    race.run()
    seconds = median(race.paired("rival")[0])
    if label not in laps:
        return _Point(seconds, "")
    floor = floor_of(median_ratio(*race.paired(TWIN)))
    ratio = median_ratio(*race.paired("rival"))
    return _Point(seconds, difference(ratio.low, ratio.high, floor))


def _exponent(cell: Cell, points: dict[int, _Point], left_out: str) -> Record:
    found = fit(list(points), [point.seconds.value for point in points.values()])
    count = len(points)
    told = f"; {left_out}" if left_out else ""
    if found is None:
        reason = f"undetermined: {count} lengths, at least {LEAST_LENGTHS} are needed{told}"
        return Record(cell, "time_exponent", None, n=count, reason=reason)
    if found.high - found.low > WIDEST:
        reason = (
            f"undetermined: exponents from {found.low:.1f} to {found.high:.1f} fit {count} times"
        )
        return Record(cell, "time_exponent", None, n=count, reason=reason + told)
    law = f"{found.factor:.2g} s · N^p" + (f" + {found.constant:.2g} s" if found.constant else "")
    reason = f"{law}, {min(points)} to {max(points)}{told}"
    ends = (found.exponent, "", found.low, found.high, count)
    return Record(cell, "time_exponent", *ends, reason=reason)


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "How costs grow with the length: counts judge what is declared, times give an exponent.",
        plan,
        measure,
    )
