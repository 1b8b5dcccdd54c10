"""Memory: the peak of a call, and what its graph keeps for the backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.calls import Call
from bakeoff.suites.metrics import Metric
from bakeoff.suites.peaks import peak_bytes, saved_bytes
from bakeoff.suites.product import expand
from bakeoff.suites.records import Cell, Record, whole_cell
from bakeoff.suites.rivals import prepared
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.verdicts import brief, status_of

NAME, VERSION = "memory", 2


METRICS = {
    "peak_bytes": Metric(
        "The most that a call held at once, above what was live before it.", "bytes", better="less"
    ),
    "saved_bytes": Metric(
        "What the graph of a call keeps for the backward.", "bytes", better="less"
    ),
}


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a kind: torch's profiler takes a second to start in each process."""
    cells = expand(NAME, VERSION, catalog, selection, directions=("forward", "training"))
    for _, group in groupby(cells, key=lambda cell: (cell.case.kind, cell.case.device)):
        yield Job(tuple(group), untimed=True)


def measure(job: Job) -> Iterator[Record]:
    """Peak and saved bytes of each cell."""
    for cell in job.cells:
        job.announce(cell)
        call = prepared(job.catalog, cell)
        if isinstance(call, Record):
            yield call
            continue
        try:
            yield from list(_records(cell, call))
        except Exception as error:
            yield whole_cell(cell, status_of(error), brief(error))


def _records(cell: Cell, call: Call) -> Iterator[Record]:
    run = call.forward if cell.case.direction == "forward" else call.training
    # Saved bytes first: the hooks see every tensor that the graph keeps, exactly.
    saved = saved_bytes(call.output) if cell.case.direction == "training" else None
    yield Record(cell, "peak_bytes", float(peak_bytes(run, cell.case.device)), "bytes")
    if saved is not None:
        yield Record(cell, "saved_bytes", float(saved), "bytes")


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "What it allocates: the peak of a call, and the bytes kept for the backward.",
        plan,
        measure,
        metrics=METRICS,
    )
