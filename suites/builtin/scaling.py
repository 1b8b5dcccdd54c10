"""Scaling: how FLOPs, bytes and times grow with the length, and where a rival overtakes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby

import torch

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Forward, Variant
from bakeoff.suites.counting import Count, counted
from bakeoff.suites.growth import grows_as, slope
from bakeoff.suites.lengths import at_length, raced
from bakeoff.suites.metrics import Metric
from bakeoff.suites.product import expand
from bakeoff.suites.records import TIMED_OUTPUT, Cell, Record, Status, whole_cell
from bakeoff.suites.rivals import baseline_of
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.tensors import arguments_for, why_not
from bakeoff.suites.verdicts import brief, status_of

NAME, VERSION = "scaling", 3


METRICS = {
    "flops_exponent": Metric(
        "How counted FLOPs grow with N, between the two largest lengths.", better="less"
    ),
    "bytes_exponent": Metric(
        "How counted bytes grow with N when training, between the two largest lengths.",
        better="less",
    ),
    "flops_declared": Metric("Declared FLOPs as a share of the counted ones."),
    "bytes_declared": Metric("Declared least bytes as a share of those that were moved."),
    TIMED_OUTPUT: Metric("A timed output or gradient that is wrong, as in the suite speed."),
    "time_exponent": Metric("p in a + b·N^p, fitted to times; undetermined below 4 lengths."),
    "crossover_length": Metric("The length N from which on it beats the baseline."),
}

#: Pairs of lengths at which costs are counted: the longest that may take no longer than this, as
#: far as the shorter ones tell, for counting goes from token to token where a reference does, or
#: from block to block. Seconds of the CPU: a busy machine must not make the lengths short, at which
#: a window spans everything.
COUNTED, COUNTING_SECONDS = ((64, 128), (512, 1024), (2048, 4096)), 5.0
#: Declared FLOPs may exceed counted ones by rounding only. A block that reaches beyond its window
#: computes what nobody asked for: then they may be half of the counted ones, and are another share
#: at another length. A share that stays the same is that of a factor: of an example, a head or one
#: of two products that was forgotten, each a half or less. A window of 2 w + 1 keys in three
#: blocks of w takes two thirds of them, at any length.
MOST_FLOPS, LEAST_FLOPS, LEAST_STEADY_FLOPS, STEADY = 1.05, 0.5, 0.6, 0.02


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """Counts of each forward, and a job for the times of all rivals of a case over all lengths.

    The costs of activations and connections are the same for every row, so that their times say
    nothing that one length does not; they are counted where a forward declares how they grow.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in expand(NAME, VERSION, catalog, selection, directions=("forward", "training")):
        forward = catalog[cell.variant].forward(cell.forward)
        if cell.case.kind == "attention" or _declares(forward):
            groups.setdefault(repr(replace(cell, case=at_length(cell.case, 64))), []).append(cell)
    counts = {repr(c): c for group in groups.values() for c in _counting(group)}
    for _, cells in groupby(counts.values(), key=lambda c: (c.variant, c.case.device)):
        yield Job(tuple(cells), untimed=True)
    races: dict[str, list[Cell]] = {}
    for group in groups.values():
        if group[0].case.kind == "attention":
            cell = _spanning(group[0], "times", sorted({c.case.seq_len for c in group}))
            races.setdefault(repr(replace(cell.case, options={})), []).append(cell)
    for rivals in races.values():
        settings = {"budget": selection.budget, "precision": selection.precision}
        baseline = baseline_of(catalog, "attention", selection.baseline)
        yield Job(tuple(rivals), {**settings, "baseline": baseline})


def _declares(forward: Forward) -> bool:
    return any((forward.complexity, forward.memory, forward.flops, forward.min_bytes))


def _counting(group: list[Cell]) -> Iterator[Cell]:
    """Operations are counted forward and bytes in training, on plain tensors, in any mode."""
    for direction in ("forward", "training"):
        case = replace(group[0].case, direction=direction, mode="eager", threads=1)
        yield _spanning(replace(group[0], case=case), "counts", COUNTED[-1])


def _spanning(cell: Cell, check: str, lengths: Iterable[int]) -> Cell:
    """One cell for all lengths, at the place of the largest."""
    lengths = list(lengths)
    extra = {"check": check, "lengths": ",".join(map(str, lengths))}
    return replace(cell, case=at_length(cell.case, lengths[-1]), extra=extra)


def measure(job: Job) -> Iterator[Record]:
    """Counts or times, as the cells ask."""
    able = []
    for cell in job.cells:
        job.announce(cell)
        variant = job.catalog[cell.variant]
        reason = why_not(variant, cell.forward, cell.case)
        if reason:
            yield whole_cell(cell, Status.UNSUPPORTED, reason)
        elif cell.extra["check"] == "times":
            able.append(cell)
        else:
            yield from _counted(cell, variant)
    if able:
        yield from raced(job, able)


def _counted(cell: Cell, variant: Variant) -> Iterator[Record]:
    """What counting says; unsupported where a call can't be counted, though it runs."""
    try:  # before anything is counted, which also pays for what is imported late
        arguments = arguments_for(variant, at_length(cell.case, COUNTED[0][0]))
        with torch.no_grad():
            arguments.call(variant.forward(cell.forward).fn)
    except Exception as error:
        yield whole_cell(cell, status_of(error), brief(error))
        return
    try:
        yield from list(_counts(cell, variant))
    except Exception as error:  # it reads a number, or calls a kernel that knows no such tensors
        reason = f"not to be counted without numbers: {brief(error)}"
        yield whole_cell(cell, Status.UNSUPPORTED, reason)


def _counts_of_longest(cell: Cell, variant: Variant) -> dict[int, Count]:
    """The counts at the longest pair of lengths for which there is time."""
    counts: dict[int, Count] = {}
    seconds: dict[int, float] = {}

    def count(n: int) -> None:
        started = time.process_time()
        counts[n] = counted(variant, cell.forward, at_length(cell.case, n))
        seconds[n] = time.process_time() - started

    for pair in COUNTED:
        if counts and _expected(seconds, pair) > COUNTING_SECONDS:
            break
        for n in pair:
            count(n)
    return {n: counts[n] for n in sorted(counts)[-2:]}


def _expected(seconds: Mapping[int, float], lengths: Iterable[int]) -> float:
    """The seconds, if they grow on as between the last two lengths: with N to N²."""
    (_, before), (longest, last) = sorted(seconds.items())[-2:]
    doubled = min(max(2.0, last / before), 4.0)
    return last * math.fsum(doubled ** math.log2(n / longest) for n in lengths)


def _counts(cell: Cell, variant: Variant) -> Iterator[Record]:
    """What a forward declares, judged by counting."""
    forward = variant.forward(cell.forward)
    counts = _counts_of_longest(cell, variant)
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
        shares = [
            forward.flops(at_length(cell.case, n)) / max(1.0, counts[n].flops) for n in lengths
        ]
        steady = abs(shares[-1] / shares[-2] - 1) < STEADY and case.pattern != "decode"
        yield _flops(cell, forward.flops(case), most.flops, case, steady)
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


def _flops(cell: Cell, declared: float, found: float, case: Case, steady: bool) -> Record:
    """No more than what was done, and not much less; a causal mask hides part of it."""
    if not found:
        return Record(cell, "flops_declared", None, reason="nothing that can be counted")
    shape = case.shape
    visible = 1.0
    if isinstance(shape, Shape):
        visible = case.visible_pairs / (shape.q_len * shape.k_len)
    least = LEAST_STEADY_FLOPS if steady else LEAST_FLOPS
    right = least * visible <= declared / found <= MOST_FLOPS
    status = Status.OK if right else Status.WRONG
    reason = f"declared {declared:.4g}, counted {found:.4g} at N = {case.seq_len}"
    return Record(cell, "flops_declared", declared / found, status=status, reason=reason)


def _bytes(cell: Cell, declared: float, found: float) -> Record:
    """No more than what its operations moved one by one."""
    status = Status.OK if 0 < declared <= found else Status.WRONG
    reason = f"declared at least {declared:.4g}, moved {found:.4g}"
    return Record(cell, "bytes_declared", declared / found, status=status, reason=reason)


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "How costs grow with the length: counts judge what is declared, times give an exponent.",
        plan,
        measure,
        metrics=METRICS,
    )
