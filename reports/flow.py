"""What the records of gradient flow say, gathered by stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.rows import Row, plain
from bakeoff.reports.units import number
from bakeoff.reports.words import describe, varying

__all__ = ["Reach", "Stacked", "initialisations_of", "reaches_of", "stacks_of"]

#: Axes that tell the settings of stacks apart.
_SETTING = ("features", "heads", "head_dim", "seq_len", "pattern", "threads", "seed")
_BY_LAYER = "by layer: "


@dataclass(frozen=True)
class Stacked:
    """One cell: a stack of one variant.

    Args:
        kind: Of the variant.
        name: The variant, with options and a grid that tell it from others.
        setting: What all stacks of a table share, in words.
        depth: L.
        draws: How many stacks were drawn.
        rows: By metric.
        control: Whether it is shown and never ranked.
    """

    kind: str
    name: str
    setting: str
    depth: int
    draws: int
    rows: dict[str, Row]
    control: bool = False

    def value(self, metric: str) -> float | None:
        """A metric's value; ``per_layer`` is e to the exponent."""
        if metric == "per_layer":
            exponent = self.value("grad_norm_exponent")
            return None if exponent is None else math.exp(min(exponent, 700.0))
        row = self.rows.get(metric)
        return row.value if row else None

    def shown(self, metric: str) -> str:
        """The value for people; ``>f64`` where float64 does not reach."""
        value = self.value(metric)
        if value is None:
            return ">f64" if metric == "per_layer" or metric in self.rows else "-"
        return number(value)

    @property
    def distance(self) -> float:
        """How far the gradient is from arriving undiminished, for each layer."""
        exponent = self.value("grad_norm_exponent")
        return math.inf if exponent is None else abs(exponent)

    def layers(self, metric: str) -> list[float | None]:
        """The value in each layer; None beyond float64."""
        row = self.rows.get(metric)
        _, found, text = row.reason.partition(_BY_LAYER) if row else ("", "", "")
        return [None if item == "-" else float(item) for item in text.split()] if found else []


@dataclass(frozen=True)
class Reach:
    """How much of a gradient reaches q, k and v of one attention."""

    name: str
    length: int
    shown: tuple[str, ...]


def initialisations_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What :func:`bakeoff.reports.initialisations.initialisation_grid` shows."""
    found: dict[str, dict[str, Any]] = {}
    for row in _of(rows, "initialisation"):
        one = found.setdefault(row.rival.replace(":reference", ""), {"critical": {}})
        if row.metric.startswith("critical_"):
            one["critical"][row.metric.removeprefix("critical_")] = row.value
        else:
            one[row.metric] = row.value
    return [{"name": name, **one} for name, one in found.items() if "second_moment" in one]


def stacks_of(rows: Sequence[Row]) -> list[Stacked]:
    """Every stack of which something was measured."""
    cells: dict[int, list[Row]] = {}
    for row in _of(rows, "flow"):
        if row.metric != "cell":
            cells.setdefault(row.cell, []).append(row)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for found in cells.values():
        by_kind.setdefault(found[0].axes["kind"], []).append(_axes(found[0]))
    differing = {kind: varying(axes) for kind, axes in by_kind.items()}
    return [_stacked(found, differing[found[0].axes["kind"]]) for found in cells.values()]


def _axes(row: Row) -> dict[str, Any]:
    return {axis: row.axes[axis] for axis in _SETTING}


def _stacked(rows: Sequence[Row], differing: Sequence[str]) -> Stacked:
    row, extra = rows[0], plain(rows[0].axes["extra"])
    words = []
    if "initialisation" in extra:
        words.append(f"{extra['initialisation'].replace('_', ' ')} initialisation")
    if "skip" in extra:
        words.append("with skips" if extra["skip"] else "without skips")
    # A variant that allows no other pattern stands with the others all the same.
    told = describe(_axes(row), [axis for axis in differing if axis != "pattern"])
    words += [told] if told else []
    return Stacked(
        row.axes["kind"],
        _name(row),
        ", ".join(words),
        extra["depth"],
        extra["draws"],
        {row.metric: row for row in rows},
        row.control,
    )


def _name(row: Row) -> str:
    name = row.rival.replace(":reference", "")
    return f"{name}, {describe({'grid': row.axes['grid']})}" if row.axes["grid"] else name


def reaches_of(rows: Sequence[Row]) -> list[Reach]:
    """One for each attention."""
    cells: dict[int, dict[str, Row]] = {}
    for row in _of(rows, "reach"):
        if row.metric != "cell":
            cells.setdefault(row.cell, {})[row.metric] = row
    found = []
    for by_metric in cells.values():
        first = by_metric["grad_to_q"]
        shown = []
        for name in "qkv":
            for metric in (f"grad_to_{name}", f"grad_to_{name}_exponent"):
                found_row = by_metric.get(metric)
                value = found_row.value if found_row else None
                shown.append("-" if value is None else number(value))
        length = int(first.reason.rpartition("= ")[2])
        found.append(Reach(_name(first), length, tuple(shown)))
    return found


def _of(rows: Sequence[Row], check: str) -> list[Row]:
    return [row for row in rows if plain(row.axes["extra"]).get("check") == check]
