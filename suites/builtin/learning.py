"""Learning: small tasks, a tiny model with the variant in its place, several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.learning.measuring import measured
from bakeoff.suites.learning.plan import NAME, VERSION, cells_of
from bakeoff.suites.records import Record
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a cell: a cell is several training runs, and what is killed loses one at most."""
    for cell in cells_of(catalog, selection):
        yield Job((cell,), untimed=True)


def measure(job: Job) -> Iterator[Record]:
    """Search the learning rate, train with each seed, test."""
    for cell in job.cells:
        job.announce(cell)
        # Each announcement is a sign of life: a cell may train for longer than the timeout.
        yield from measured(cell, job.catalog, partial(job.announce, cell))


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "Does it learn: small tasks between a floor and a ceiling, over several seeds.",
        plan,
        measure,
        on_request=True,
    )
