"""What learned how much: the records of the learning suite, gathered by what can be compared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bakeoff.reports.rows import Row, plain
from bakeoff.suites.records import CELL_METRIC

__all__ = ["SCORES", "Comparison", "Learner", "comparisons_of", "curve_of", "refusal_of"]

#: What is compared, with what it is called.
SCORES = {"task_accuracy": "accuracy", "r_squared": "R²"}


@dataclass(frozen=True)
class Learner:
    """One variant or control in one model.

    Args:
        name: ``variant:forward``, with options where several were measured; of a control its name.
        role: ``floor``, ``control``, ``ceiling`` or ``variant``.
        rows: By metric.
    """

    name: str
    role: str
    rows: Mapping[str, Row]

    @cached_property
    def score(self) -> Row | None:
        """The record of its score, where it has one."""
        return next((self.rows[m] for m in SCORES if m in self.rows), None)

    @property
    def value(self) -> float | None:
        """Its score, where it has one."""
        return self.score.value if self.score else None

    @property
    def ranks(self) -> bool:
        """Whether it is more than something to be compared with."""
        return self.role in ("ceiling", "variant")

    @property
    def solved(self) -> float:
        """The share of runs that reached the target."""
        return self.number("solved") or 0.0

    def number(self, metric: str) -> float | None:
        """The value of one metric, where there is one."""
        return self.rows[metric].value if metric in self.rows else None

    def above(self, other: Learner | None) -> bool | None:
        """Whether its score is surely higher; None where one of them has no interval."""
        mine, others = self.score, other.score if other else None
        if mine is None or others is None or mine.low is None or others.high is None:
            return None
        return mine.low > others.high


@dataclass(frozen=True)
class Comparison:
    """All that learned one task in models of one kind and depth, with the same budget.

    Args:
        task: Its name.
        kind: Of the variants.
        depth: Layers of the model.
        steps: Training steps of a run.
        seeds: How many runs.
        learners: The best first, then those without a score, by name; floors and controls last.
        wrong: Labels that are left out because they are wrong.
    """

    task: str
    kind: str
    depth: int
    steps: int
    seeds: int
    learners: tuple[Learner, ...]
    wrong: tuple[str, ...] = ()

    @cached_property
    def floor(self) -> Learner | None:
        """The best of the floors."""
        floors = [one for one in self.learners if one.role == "floor" and one.value is not None]
        return max(floors, key=lambda one: one.value or 0.0, default=None)

    @cached_property
    def ceiling(self) -> Learner | None:
        """What should solve it."""
        return next((one for one in self.learners if one.role == "ceiling"), None)

    @property
    def ranks(self) -> bool:
        """Whether the task tells anything apart: the ceiling is not known to miss the floor."""
        return self.ceiling is not None and self.ceiling.above(self.floor) is not False


def comparisons_of(rows: Sequence[Row], wrong: Collection[str]) -> Iterator[Comparison]:
    """One for each task, kind, depth and budget, in the order of the results."""
    groups: dict[tuple[object, ...], dict[int, list[Row]]] = {}
    for row in rows:
        extra = plain(row.axes["extra"])
        budget = (extra["steps"], extra["seeds"], row.axes["device"], row.axes["threads"])
        key = (extra["task"], row.axes["kind"], extra["depth"], *budget)
        groups.setdefault(key, {}).setdefault(row.cell, []).append(row)
    for (task, kind, depth, steps, seeds, *_), cells in groups.items():
        left_out = [_learner(own).name for own in cells.values() if own[0].label in wrong]
        right = [_learner(own) for own in cells.values() if own[0].label not in wrong]
        right.sort(key=_place)
        count = len(str(seeds).split(","))
        yield Comparison(
            str(task), str(kind), int(str(depth)), int(str(steps)), count, tuple(right),
            tuple(left_out),
        )  # fmt: skip


def _learner(rows: Sequence[Row]) -> Learner:
    first = rows[0]
    role = str(plain(first.axes["extra"])["role"])
    name = str(first.axes["variant"]) if role in ("floor", "control") else first.rival
    role = "control" if first.control and role == "variant" else role
    return Learner(name, role, {row.metric: row for row in rows})


def _place(one: Learner) -> tuple[bool, bool, float, str]:
    """Sorts the best first, and what is there to be compared with last."""
    return not one.ranks, one.value is None, -(one.value or 0.0), one.name


def curve_of(learner: Learner, metric: str) -> list[tuple[int, float]]:
    """The loss by step, as the remark of ``train_loss`` and ``validation_loss`` holds it."""
    row = learner.rows.get(metric)
    pairs = (text.split(":") for text in (row.reason.split() if row else ()))
    return [(int(step), float(loss)) for step, loss in pairs]


def refusal_of(learner: Learner) -> Row | None:
    """The record that says why there is no other."""
    return learner.rows.get(CELL_METRIC)
