"""What did not work, gathered: the same failure in many cells is told once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bakeoff.reports.rows import Row, plain
from bakeoff.reports.words import verbal
from bakeoff.suites.records import CELL_METRIC

__all__ = ["Failure", "Refusal", "failures_of", "refusals_of", "where"]

#: Told of every failure, and told only where they differ.
_ALWAYS = ("pattern", "seq_len", "dtype", "direction")
_IF_SEVERAL = ("mode", "device", "threads", "inputs", "seed", "features", "heads", "batch")
_WORST = ("wrong", "failed", "crashed", "timeout", "oom")


@dataclass(frozen=True)
class Failure:
    """One way in which one forward failed.

    Args:
        label: ``variant:forward``.
        status: What became of it.
        what: The suite and the metric.
        where: The cells, in words.
        reason: Of the first cell.
        cells: How many cells.
    """

    label: str
    status: str
    what: str
    where: str
    reason: str
    cells: int


@dataclass(frozen=True)
class Refusal:
    """A reason why something is not supported, and who gives it.

    Args:
        reason: The reason.
        labels: Who gives it.
        cells: In how many cells.
    """

    reason: str
    labels: tuple[str, ...]
    cells: int


def failures_of(rows: Iterable[Row]) -> list[Failure]:
    """The worst first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.label, row.status, what(row)), []).append(row)
    found = [
        Failure(label, status, of, where(group), group[0].reason, len(group))
        for (label, status, of), group in groups.items()
    ]
    return sorted(found, key=lambda failure: _WORST.index(failure.status))


def refusals_of(rows: Iterable[Row]) -> list[Refusal]:
    """The most frequent first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.reason, []).append(row)
    found = [
        Refusal(reason, tuple(dict.fromkeys(row.label for row in group)), len(group))
        for reason, group in groups.items()
    ]
    return sorted(found, key=lambda refusal: -refusal.cells)


def what(row: Row) -> str:
    """The suite and what it looked at."""
    identity = plain(row.axes["extra"] or "{}").get("identity")
    metric = "" if row.metric == CELL_METRIC else f" {row.metric}"
    return f"{row.axes['suite']}{metric}" + (f" ({identity})" if identity else "")


def where(rows: Sequence[Row]) -> str:
    """The axes of these cells, each with all its values."""
    parts = []
    for axis in (*_ALWAYS, *_IF_SEVERAL):
        values = list(dict.fromkeys(row.axes[axis] for row in rows))
        if axis in _IF_SEVERAL and len(values) == 1:
            continue
        if axis == "seq_len":
            parts.append("N = " + ", ".join(str(value) for value in sorted(filter(None, values))))
        elif texts := [text for value in values if (text := verbal(axis, value))]:
            parts.append(", ".join(texts))
    return "; ".join(parts)
