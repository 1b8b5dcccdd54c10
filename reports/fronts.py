"""The Pareto front: which forwards no other beats in time, memory and error at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bakeoff.reports.tables import Entry, Table
from bakeoff.reports.words import facets

__all__ = ["Front", "Point", "beats", "fronts_of", "headline"]

#: Axes that a race and a measurement of memory share where they are of one case.
_CASE = ("pattern", "batch", "heads", "kv_heads", "head_dim", "value_dim", "grid", "features",
         "dtype", "device", "direction", "mode", "keys")  # fmt: skip
#: Fewer points make no front.
_LEAST_POINTS = 3


@dataclass(frozen=True)
class Point:
    """One forward.

    Args:
        rival: The forward.
        time: Its time, as the ratio to the baseline's.
        peak_bytes: Its peak memory.
        error: The error of what it approximates, or the RMS error of rounding; the worst seen.
        unbeaten: Whether it lies on the front.
        control: Whether it is shown and never ranked: it beats nobody, and is not on the front.
    """

    rival: str
    time: Entry
    peak_bytes: float
    error: float
    unbeaten: bool = False
    control: bool = False

    @property
    def ratio(self) -> float:
        """The ratio of the times."""
        assert self.time.value is not None
        return self.time.value

    @property
    def decade(self) -> float:
        """The error's power of ten, to the nearest."""
        return float(round(math.log10(self.error))) if self.error > 0 else -math.inf


@dataclass(frozen=True)
class Front:
    """All forwards of one case at one length.

    Args:
        fixed: The axes that are the same for all.
        length: N.
        baseline: What the ratios are to.
        points: Of whom all three numbers are known.
    """

    fixed: Mapping[str, Any]
    length: int
    baseline: str
    points: tuple[Point, ...]

    @property
    def facets(self) -> Mapping[str, str]:
        """By what a reader may choose it."""
        return facets(self.fixed)


def beats(one: Point, other: Point) -> bool:
    """Whether ``one`` is nowhere worse and somewhere better; times by more than their noise."""
    nowhere_worse = (
        one.ratio <= other.ratio
        and one.peak_bytes <= other.peak_bytes
        and one.decade <= other.decade
    )
    return nowhere_worse and (
        one.peak_bytes < other.peak_bytes or one.decade < other.decade or _faster(one, other)
    )


def fronts_of(
    speed: Sequence[Table], memory: Sequence[Table], errors: Sequence[Table]
) -> list[Front]:
    """One for each race at its largest length, where memory and errors were measured too."""
    peaks = {_case(t): t for t in memory if t.metric == "peak_bytes"}
    fronts = []
    for table in speed:
        peak = peaks.get(_case(table)) if table.metric == "ratio" else None
        if peak is None:
            continue
        length = table.lengths[-1]
        worst = _errors(errors, table.fixed)
        points = [
            Point(rival, entry, size, worst[rival], control=rival in table.controls)
            for (rival, n), entry in table.entries.items()
            if n == length and entry.value is not None and rival in worst
            if (size := _size(peak, rival, length)) is not None
        ]
        ranked = [point for point in points if not point.control]
        if len(ranked) >= _LEAST_POINTS:
            told = [replace(p, unbeaten=_is_unbeaten(p, ranked)) for p in points]
            fixed = {k: v for k, v in table.fixed.items() if k not in ("baseline", "suite_version")}
            by_time = sorted(told, key=lambda point: point.ratio)
            fronts.append(Front(fixed, length, table.baseline, tuple(by_time)))
    return fronts


def _is_unbeaten(point: Point, ranked: Iterable[Point]) -> bool:
    return not point.control and not any(beats(other, point) for other in ranked)


def headline(fronts: Iterable[Front]) -> list[Front]:
    """For each direction the case with the most forwards."""
    best: dict[str, Front] = {}
    for front in fronts:
        direction = str(front.fixed.get("direction"))
        if direction not in best or len(front.points) > len(best[direction].points):
            best[direction] = front
    return list(best.values())


def _case(table: Table) -> str:
    return repr([table.fixed.get(axis) for axis in _CASE])


def _size(table: Table, rival: str, length: int) -> float | None:
    entry = table.entries.get((rival, length))
    return entry.value if entry else None


def _errors(tables: Iterable[Table], fixed: Mapping[str, Any]) -> dict[str, float]:
    """The worst error by rival, in this dtype and pattern on this device."""
    worst: dict[str, dict[str, float]] = {"rms_error": {}, "approximation_error": {}}
    for table in tables:
        same = all(table.fixed.get(a) == fixed.get(a) for a in ("dtype", "pattern", "device"))
        if same and table.metric in worst:
            found = worst[table.metric]
            for rival, _, _, value in table.measured():
                found[rival] = max(found.get(rival, 0.0), value)
    return {**worst["rms_error"], **worst["approximation_error"]}


def _faster(one: Point, other: Point) -> bool:
    high = one.ratio if one.time.high is None else one.time.high
    low = other.ratio if other.time.low is None else other.time.low
    return high * max(one.time.floor or 1.0, other.time.floor or 1.0) < low
