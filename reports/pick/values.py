"""A metric at a length: as it was measured, or estimated between the lengths that were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bakeoff.reports.rows import Row

__all__ = ["Value", "value_at"]


@dataclass(frozen=True)
class Value:
    """A number at the length asked for.

    Args:
        value: The number.
        low: Lower end of its interval, where it was measured with one.
        high: Upper end.
        estimated: Whether it was not measured at this length.
    """

    value: float
    low: float | None = None
    high: float | None = None
    estimated: bool = False

    @property
    def most(self) -> float:
        """The upper end, or the number where there is none."""
        return self.value if self.high is None else self.high

    @property
    def least(self) -> float:
        """The lower end, or the number where there is none."""
        return self.value if self.low is None else self.low


def value_at(length: int, rows: Mapping[int, Row]) -> Value | None:
    """The value at ``length``; on a line through the two nearest in logarithms where it is missing.

    Args:
        length: N.
        rows: The measured ones by length.

    Returns:
        None where it was not measured and fewer than two other lengths were.
    """
    points = {n: v for n, row in rows.items() if (v := row.value) is not None}
    if length in points:
        row = rows[length]
        return Value(points[length], row.low, row.high)
    if len(points) < 2 or min(points.values()) <= 0:
        return None
    a, b = sorted(sorted(points, key=lambda n: abs(math.log(n / length)))[:2])
    above = [n for n in points if n > length]
    below = [n for n in points if n < length]
    if above and below:
        a, b = max(below), min(above)
    slope = math.log(points[b] / points[a]) / math.log(b / a)
    return Value(points[a] * (length / a) ** slope, estimated=True)
