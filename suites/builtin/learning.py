"""Learning: small tasks, a tiny model with the variant in its place, several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.learning.measuring import measured
from bakeoff.suites.learning.plan import NAME, VERSION, cells_of
from bakeoff.suites.metrics import Metric
from bakeoff.suites.records import Record
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite

METRICS = {
    "task_accuracy": Metric(
        "The share of right answers on test data, over seeds.", better="more", varies="seed"
    ),
    "r_squared": Metric(
        "1 minus the square error over the variance, on test data, over seeds.",
        better="more",
        varies="seed",
    ),
    "diverged": Metric("The share of runs that diverged.", better="less", varies="seed"),
    "solved": Metric(
        "The share of runs that reached the target on validation data.",
        better="more",
        varies="seed",
    ),
    "steps_to_target": Metric(
        "Training steps until the target was reached on validation data; all of them where not.",
        better="less",
        varies="seed",
    ),
    "train_loss": Metric(
        "The training loss at the end, its curve in the remark.", "nats", "less", "seed"
    ),
    "validation_loss": Metric(
        "The validation loss at the end, its curve in the remark.", "nats", "less", "seed"
    ),
    "learning_rate": Metric("The learning rate that did best on validation data."),
    "train_time": Metric("The processor's time of one training run.", "s", "less", "launch"),
    "parameters": Metric("Numbers that the model learns."),
}


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
        metrics=METRICS,
    )
