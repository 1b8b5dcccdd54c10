"""What was trained, from the records of runs: means and differences over paired seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from scipy import special

from bakeoff.reports.rows import Row, plain

__all__ = ["BLIND", "UNSWAPPED", "Paired", "Trained", "Training", "parts_of"]

#: The model as it is, and one of which each example sees the data of another.
UNSWAPPED, BLIND = "(unswapped)", "(blind)"


@dataclass(frozen=True)
class Paired:
    """The mean of some values with half of its 95% interval, infinite for a single one.

    Example:
        >>> found = Paired.of([1.0, 2.0, 3.0])
        >>> found.value, round(found.half, 2)
        (2.0, 2.48)
    """

    value: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Paired:
        """By Student's t."""
        n = len(values)
        half = math.inf
        if n > 1:
            half = float(special.stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
        return cls(fmean(values), half)

    @property
    def is_nothing(self) -> bool:
        """Whether the interval holds zero; a single value says nothing of that."""
        return math.isfinite(self.half) and abs(self.value) <= self.half


@dataclass(frozen=True)
class Trained:
    """One label in one model.

    Args:
        model: The model.
        label: ``variant:forward`` with swept options, or a control.
        kind: Of the variant.
        values: By metric and seed.
        refusal: The status and the reason, where a seed brought no result.
    """

    model: str
    label: str
    kind: str = ""
    values: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    refusal: str = ""

    @property
    def is_control(self) -> bool:
        """Whether it is no variant."""
        return self.label in (UNSWAPPED, BLIND)

    def mean(self, metric: str) -> float | None:
        """Over the seeds; None where there is none."""
        found = self.values.get(metric, {}).values()
        return fmean(found) if found else None

    def curve(self, score: str) -> dict[int, float]:
        """By step the mean of a score; the last step is one interval after the last look."""
        looks = {0: f"{score}_before"}
        for metric in self.values:
            if found := re.fullmatch(rf"{re.escape(score)}_at_(\d+)", metric):
                looks[int(found[1])] = metric
        means = {step: self.mean(metric) for step, metric in sorted(looks.items())}
        means[int(self.mean("steps") or 0)] = self.mean(f"{score}_after")
        return {step: value for step, value in means.items() if value is not None}

    def steps_to(self, target: float, score: str) -> float | None:
        """After how many steps a score is at ``target``, on a line between two looks."""
        before: tuple[int, float] | None = None
        for step, value in self.curve(score).items():
            if value <= target:
                if before is None:
                    return float(step)
                share = (before[1] - target) / (before[1] - value)
                return before[0] + share * (step - before[0])
            before = step, value
        return None


class Training:
    """All that was trained for as long, in one dtype on one device."""

    def __init__(self, rows: Iterable[Row]) -> None:
        grouped: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            control = row.axes["variant"] in (UNSWAPPED, BLIND)
            label = row.axes["variant"] if control else row.rival
            grouped.setdefault((_extra(row, "model"), label), []).append(row)
        self._found = {key: _trained(*key, own) for key, own in grouped.items()}
        self.models = tuple(dict.fromkeys(model for model, _ in self._found))

    def of(self, model: str, label: str) -> Trained:
        """What was trained; without a value where nothing was."""
        return self._found.get((model, label), Trained(model, label))

    def variants(self, kind: str = "") -> list[Trained]:
        """All but the controls, of one kind or of any."""
        found = (t for t in self._found.values() if not t.is_control)
        return [each for each in found if not kind or each.kind == kind]

    def pairs(self, model: str, label: str, metric: str) -> list[tuple[float, float]]:
        """A label's value and that of the model as it is, for every seed that both have."""
        own = self.of(model, label).values.get(metric, {})
        base = self.of(model, UNSWAPPED).values.get(metric, {})
        return [(own[seed], base[seed]) for seed in own if seed in base]

    def has_learned(self, model: str) -> bool:
        """Whether the model as it is came half the way from blind to the floor, for sure."""
        own = self.of(model, UNSWAPPED)
        after, floor = own.values.get("loss_after", {}), own.mean("floor")
        blind = self.of(model, BLIND).mean("loss_after")
        if blind is None or floor is None or len(after) < 2:
            return False
        loss = Paired.of(list(after.values()))
        return loss.value + loss.half < (blind + floor) / 2


def parts_of(rows: Sequence[Row]) -> Iterator[tuple[str, Training]]:
    """What may be compared, with what it has in common; nothing, where all has."""
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = (row.axes["dtype"], row.axes["device"], _extra(row, "effort"))
        parts.setdefault(key, []).append(row)
    for (dtype, device, effort), own in parts.items():
        name = f"{dtype} on {device}, effort {effort}" if len(parts) > 1 else ""
        yield name, Training(own)


def _trained(model: str, label: str, rows: Sequence[Row]) -> Trained:
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.value is not None and row.status == "ok":
            values.setdefault(row.metric, {})[row.axes["seed"]] = row.value
    bad = (f"{row.status}: {row.reason}" for row in rows if row.status != "ok")
    return Trained(model, label, rows[0].axes["kind"], values, next(bad, ""))


def _extra(row: Row, name: str) -> str:
    return str(plain(row.axes["extra"]).get(name, ""))
