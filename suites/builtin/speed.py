"""Speed: every rival of one case in one race, as a ratio to the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.calls import Call
from bakeoff.suites.clocks import clock_for
from bakeoff.suites.machine import (
    MACHINE,
    Rates,
    Work,
    machine_cells,
    rate_of,
    rates_in,
    reference_kernel,
)
from bakeoff.suites.metrics import Metric
from bakeoff.suites.product import expand
from bakeoff.suites.race import Lap, Race
from bakeoff.suites.records import TIMED_OUTPUT, Cell, Record, Status, whole_cell
from bakeoff.suites.rivals import (
    BASELINES,
    TWIN,
    baseline_for,
    baseline_of,
    options_of,
    prepared,
)
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.statistics import Estimate, floor_of, median, median_ratio, reached, spread
from bakeoff.suites.timed_outputs import TimedOutputs
from bakeoff.suites.verdicts import brief, status_of

NAME, VERSION = "speed", 3


METRICS = {
    TIMED_OUTPUT: Metric(
        "The share of elements of a timed output or gradient that are further than 8 error budgets "
        "from the float64 reference on the same inputs, which change between samples; at most "
        "1/16 passes."
    ),
    "time": Metric("The median time of a call.", "s", better="less", varies="launch"),
    "ratio": Metric(
        "The median ratio of its time to that of the baseline, in the same rounds.",
        better="less",
        varies="launch",
    ),
    "kernel_ratio": Metric(
        "The median ratio of its time to that of a small reference kernel, in the same rounds.",
        better="less",
        varies="launch",
    ),
    "noise_floor": Metric("How far apart two equals came out in the race, at least 1.02."),
    "precision": Metric("The half-width of the interval of the ratio, as a share."),
    "spread": Metric("How far single times lie from their median, as a share."),
    "tokens_per_second": Metric("Rows or queries by the time.", "1/s"),
    "flops_per_second": Metric("Floating-point operations by the time.", "1/s"),
    "bytes_per_second": Metric("What a copy moves by its time; a rate of the machine.", "bytes/s"),
    "roofline_fraction": Metric("The least time that the machine allows, by the time measured."),
    "compile_time": Metric(
        "How long torch.compile took, its caches off.", "s", better="less", varies="launch"
    ),
    "graph_breaks": Metric("How often torch.compile left the graph.", better="less"),
}

KERNEL = "the reference kernel"
#: The share of a GPU sample in which the CPU was still launching, above which that was timed.
LAUNCH_BOUND = 0.9


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """What the machine can do, and one job a case, with all its rivals."""
    races: dict[str, list[Cell]] = {}
    for cell in expand(NAME, VERSION, catalog, selection):
        # Options differ from variant to variant; everything else makes the case.
        races.setdefault(repr(replace(cell.case, options={})), []).append(cell)
    yield from _machine_jobs(cells[0] for cells in races.values())
    for cells in races.values():
        case = cells[0].case
        baseline = baseline_of(catalog, case.kind, selection.baseline)
        cold = selection.is_cold(case.device)
        extra: dict[str, Any] = {"baseline": baseline} if baseline != BASELINES[case.kind] else {}
        extra |= {"cache": "cold"} if cold else {}
        settings = {
            "baseline": baseline,
            "budget": selection.budget,
            "precision": selection.precision,
            "cold": cold,
        }
        ask = partial(rates_in, case.device, case.dtype, case.threads)
        for launch in range(1, selection.launches + 1):
            several = {"launch": launch} if selection.launches > 1 else {}
            own = tuple(replace(cell, extra={**extra, **several}) for cell in cells)
            yield Job(own, settings, ask=ask, fresh=selection.launches > 1)


def _machine_jobs(cells: Iterable[Cell]) -> Iterator[Job]:
    """One for each device and number of threads."""
    wanted: dict[tuple[str, int], dict[str, None]] = {}
    for cell in cells:
        wanted.setdefault((cell.case.device, cell.case.threads), {})[cell.case.dtype] = None
    for (device, threads), dtypes in wanted.items():
        found = [machine_cells(NAME, VERSION, device, dtype, threads) for dtype in dtypes]
        yield Job(tuple(cell for each in found for cell in each), for_others=True)


def measure(job: Job) -> Iterator[Record]:
    """Prepare every rival, race those that run, and give each its records."""
    if job.cells[0].variant == MACHINE:
        yield from _machine(job)
        return
    calls: dict[Cell, Call] = {}
    for cell in job.cells:
        job.announce(cell)
        call = prepared(job.catalog, cell, calls.values())
        if isinstance(call, Record):
            yield call
        else:
            calls[cell] = call
    if calls:
        yield from _race(job, calls)


def _machine(job: Job) -> Iterator[Record]:
    for cell in job.cells:
        job.announce(cell)
        try:
            yield rate_of(cell)
        except Exception as error:
            yield whole_cell(cell, status_of(error), brief(error))


def _race(job: Job, calls: dict[Cell, Call]) -> Iterator[Record]:
    label, device = job.settings["baseline"], job.cells[0].case.device
    rivals = {cell.label + options_of(cell): call for cell, call in calls.items()}
    cells = dict(zip(rivals, calls, strict=True))
    # The twin is prepared anew, as every rival is: what differs between equals is to be seen.
    twin = baseline_for(job.catalog, next(iter(calls)), label, calls.values())
    if isinstance(twin, Call):
        rivals[TWIN] = twin
        if label not in rivals:
            baseline = baseline_for(job.catalog, next(iter(calls)), label, calls.values())
            assert isinstance(baseline, Call), "it ran a moment ago"
            rivals[label] = baseline
    announce = partial(_announce, job, cells)
    outputs = TimedOutputs(rivals, announce)
    kernel = reference_kernel(device)
    laps: dict[str, Lap] = {name: call.timed for name, call in rivals.items()}
    laps[KERNEL] = lambda repeats: kernel
    race = Race(
        laps,
        label if label in laps else KERNEL,
        steady=(TWIN, KERNEL),
        budget=job.settings["budget"],
        precision=job.settings["precision"],
        clock=clock_for(device, job.settings["cold"]),
        seed=job.cells[0].case.seed,
        announce=announce,
        renew=outputs.renew,
        look=outputs.look,
    )
    race.run()
    outputs.finish()
    equals = median_ratio(*race.paired(TWIN)) if TWIN in laps else None
    without = f"the baseline {label}: {outputs.fault(label)}" if equals else str(twin)
    equals = None if outputs.fault(label) else equals
    for name, cell in cells.items():
        yield (found := outputs.record(name, cell))
        if found.status == Status.WRONG:
            continue
        yield from _time_records(cell, race, name)
        if equals:
            yield from _ratio_records(cell, median_ratio(*race.paired(name)), equals, job.settings)
        else:
            yield Record(cell, "ratio", status=Status.UNSUPPORTED, reason=without)
        yield from _compile_records(cell, calls[cell])
        if cell.case.direction == "forward":
            yield from _roofline(job, cell, calls[cell], median(race.paired(name)[0]))


def _announce(job: Job, names: dict[str, Cell], name: str) -> None:
    if name in names:
        job.announce(names[name])


def _time_records(cell: Cell, race: Race, name: str) -> Iterator[Record]:
    own, kernel = race.paired(name, KERNEL)
    seconds = median(own)
    launching = sorted(race.launching[name])[len(race.launching[name]) // 2]
    told = "launches dominate: the GPU waited for the CPU" if launching > LAUNCH_BOUND else ""
    yield _record(cell, "time", seconds, "s", reason=told)
    yield Record(cell, "spread", spread(own), n=len(own))
    yield _record(cell, "tokens_per_second", _rate(cell.case.shape.tokens, seconds), "1/s")
    yield _record(cell, "kernel_ratio", median_ratio(own, kernel))


def _ratio_records(
    cell: Cell, ratio: Estimate, equals: Estimate, settings: Mapping[str, Any]
) -> Iterator[Record]:
    yield _record(cell, "ratio", ratio, reason=f"to {settings['baseline']}")
    yield Record(cell, "noise_floor", floor_of(equals), n=equals.n)
    asked, budget = settings["precision"], settings["budget"]
    missed = f"asked for {asked:.3g}, not reached within {budget:g} s a race"
    found = reached(ratio)
    yield Record(cell, "precision", found, n=ratio.n, reason=missed if found > asked else "")


def _compile_records(cell: Cell, call: Call) -> Iterator[Record]:
    if call.compile_seconds is not None:
        yield Record(cell, "compile_time", call.compile_seconds, "s", n=1)
        yield Record(cell, "graph_breaks", float(call.graph_breaks))


def _roofline(job: Job, cell: Cell, call: Call, seconds: Estimate) -> Iterator[Record]:
    """How near a forward comes to what the machine could do at the least."""
    forward = job.catalog[cell.variant].forward(cell.forward)
    try:
        flops = forward.flops(cell.case) if forward.flops else call.branch_flops
        moved = forward.min_bytes(cell.case) if forward.min_bytes else call.least_bytes
    except Exception as error:
        yield Record(cell, "roofline_fraction", status=Status.FAILED, reason=brief(error))
        return
    if flops:
        yield _record(cell, "flops_per_second", _rate(flops, seconds), "1/s")
    elif cell.case.kind == "attention":
        reason = "this forward declares no FLOPs"
        yield Record(cell, "roofline_fraction", status=Status.UNSUPPORTED, reason=reason)
        return
    if "rates" not in job.settings:
        reason = "what the machine can do could not be measured"
        yield Record(cell, "roofline_fraction", status=Status.UNSUPPORTED, reason=reason)
        return
    found = job.settings["rates"]
    rates = Rates(found["flops_per_second"], tuple(map(tuple, found["copies"])))
    least, limit = rates.least_seconds(Work(flops, moved), cold=job.settings["cold"])
    yield _record(cell, "roofline_fraction", _rate(least, seconds), reason=f"{limit} binds")


def _rate(amount: float, seconds: Estimate) -> Estimate:
    """The interval turns round: the longest time is the lowest rate."""
    ends = (amount / seconds.value, amount / seconds.high, amount / seconds.low)
    return Estimate(*ends, seconds.n)


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
        metrics=METRICS,
    )
