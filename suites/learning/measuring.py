"""What one cell finds out: a learning rate is searched, several seeds are trained and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError
from bakeoff.suites.learning.controls import CHANCE, LINEAR, control_parts
from bakeoff.suites.learning.models import Sizes, build
from bakeoff.suites.learning.parts import Part, Parts, usual_parts, visible_options
from bakeoff.suites.learning.plan import CONTROL, refused
from bakeoff.suites.learning.search import Found, best_rate
from bakeoff.suites.learning.task import Task
from bakeoff.suites.learning.tasks import tasks_called
from bakeoff.suites.learning.training import Point, Training, evaluated
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.statistics import Estimate, mean
from bakeoff.suites.verdicts import brief, status_of

__all__ = ["Run", "measured"]

#: Added to the first seed for the search: what is reported is none of the runs that were chosen by.
SEARCH = 1000
TESTED = 2048


@dataclass(frozen=True)
class Run:
    """One training run, come to its end.

    Args:
        seed: Its seed.
        score: The score on test data; that of chance where it diverged.
        training: How it went.
    """

    seed: int
    score: float
    training: Training


@dataclass(frozen=True)
class _Subject:
    """A cell, read."""

    cell: Cell
    task: Task
    sizes: Sizes
    parts: Parts
    remark: str
    alive: Callable[[], None]

    @property
    def seeds(self) -> list[int]:
        return [int(seed) for seed in self.cell.extra["seeds"].split(",")]

    def start(self, rate: float, seed: int) -> Training:
        device = self.cell.case.device
        model = build(self.task, self.parts, self.sizes, seed).to(device)
        return Training(model, self.task, rate, self.task.steps, seed, self.alive, device)


def measured(cell: Cell, catalog: Catalog, alive: Callable[[], None]) -> Iterator[Record]:
    """The records of a cell; what can't be trained is a record that says why."""
    try:
        yield from list(_records(cell, catalog, alive))
    except UnsupportedError as error:
        yield whole_cell(cell, Status.UNSUPPORTED, str(error))
    except Exception as error:
        yield whole_cell(cell, status_of(error), brief(error))


def _records(cell: Cell, catalog: Catalog, alive: Callable[[], None]) -> Iterator[Record]:
    (task,) = tasks_called([cell.extra["task"]])
    task, sizes = replace(task, steps=cell.extra["steps"]), Sizes(cell.extra["depth"])
    seeds = [int(seed) for seed in cell.extra["seeds"].split(",")]
    if cell.variant == CHANCE:
        told = f"{task.summary} From: {task.source}."
        yield _record(cell, task.metric, mean([task.chance(seed) for seed in seeds]), reason=told)
        return
    if cell.variant == LINEAR and task.model == "mlp":
        sizes = replace(sizes, depth=1)  # a stack of linear layers is one, and starts better
    parts, remark = _parts(cell, catalog, task, sizes)
    subject = _Subject(cell, task, sizes, parts, remark, alive)
    found = best_rate(lambda rate: subject.start(rate, seeds[0] + SEARCH))
    runs = [_run(subject, found.rate, seed) for seed in seeds]
    yield from _told(subject, found, runs)


def _parts(cell: Cell, catalog: Catalog, task: Task, sizes: Sizes) -> tuple[Parts, str]:
    """What stands in the model, and what has to be said of it."""
    usual = _usual(cell.case.kind, task, catalog)
    if cell.forward == CONTROL:
        return control_parts(cell.variant, cell.case.kind, usual, catalog), ""
    variant = catalog[cell.variant]
    if reason := refused(variant, cell.forward, task, sizes):
        raise UnsupportedError(reason)
    shown = visible_options(variant, cell.case) if cell.case.kind == "attention" else {}
    options: dict[str, Any] = {**cell.case.options, **shown}
    told = ", ".join(
        f"{name}={value}, since the default {variant.options[name]} reaches beyond all positions"
        for name, value in shown.items()
    )
    return usual.having(Part(variant, cell.forward, options)), told


def _usual(kind: str, task: Task, catalog: Catalog) -> Parts:
    """Activations of an MLP are compared in a plain one, where they alone carry the signal."""
    if task.model == "mlp" and kind == "activation":
        return usual_parts(catalog, norm=False).having(Part(catalog["plain"]))
    return usual_parts(catalog)


def _run(subject: _Subject, rate: float, seed: int) -> Run:
    task, run = subject.task, subject.start(rate, seed)
    run.advance(run.steps)
    if run.diverged:
        return Run(seed, task.chance(seed), run)
    tested = task.make("test", TESTED, seed).to(run.device)
    return Run(seed, evaluated(run.model, task, tested)[1], run)


def _told(subject: _Subject, found: Found, runs: Sequence[Run]) -> Iterator[Record]:
    cell, task = subject.cell, subject.task
    trained = [run.training for run in runs]
    causes = [(run.seed, run.training.diverged) for run in runs]
    diverged = [f"seed {seed}: {cause}" for seed, cause in causes if cause]
    failed = Status.FAILED if len(diverged) == len(runs) else Status.OK
    told = f"diverged at learning rate {found.rate:g}: {'; '.join(diverged)}" if diverged else ""
    remarks = "; ".join(filter(None, (subject.remark, told)))
    score = _record(cell, task.metric, mean([run.score for run in runs]), reason=remarks)
    yield replace(score, status=failed)
    yield Record(cell, "diverged", len(diverged) / len(runs), n=len(runs), reason=told)
    late = [run for run in trained if run.reached is None]
    censored = f"at least: {len(late)} of {len(runs)} runs did not reach {task.target:g}"
    solved = 1 - len(late) / len(runs)
    yield Record(cell, "solved", solved, n=len(runs), reason=f"{task.target:g} reached")
    steps = mean([float(run.reached or run.steps) for run in trained])
    yield _record(cell, "steps_to_target", steps, reason=censored if late else "")
    for name in ("train", "validation"):
        curve = _curve(trained, name)
        text = " ".join(f"{step}:{loss:.4g}" for step, loss in curve)
        losses = [getattr(run.curve[-1], name) for run in trained if run.curve]
        if losses:
            yield _record(cell, f"{name}_loss", mean(losses), "nats", reason=text)
    yield Record(cell, "learning_rate", found.rate, n=len(found.losses), reason=found.remark)
    yield _record(cell, "train_time", mean([run.seconds for run in trained]), "s")
    parameters = sum(p.numel() for p in trained[0].model.parameters())
    yield Record(cell, "parameters", float(parameters))


def _curve(runs: Sequence[Training], name: str) -> list[tuple[int, float]]:
    """The mean loss by step; a run that ended early keeps its last."""
    steps = sorted({point.step for run in runs for point in run.curve})
    curves = [run.curve for run in runs if run.curve]
    return [(step, fmean(getattr(_at(curve, step), name) for curve in curves)) for step in steps]


def _at(curve: Sequence[Point], step: int) -> Point:
    """The last point that is not after ``step``."""
    return max((p for p in curve if p.step <= step), key=lambda p: p.step, default=curve[0])


def _record(cell: Cell, metric: str, found: Estimate, unit: str = "", reason: str = "") -> Record:
    low, high = (found.low, found.high) if found.n > 1 else (None, None)
    return Record(cell, metric, found.value, unit, low, high, found.n, reason=reason)
