"""φ, φ′ and φ″, as the accuracy suite stored them, and how they are drawn."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bakeoff.reports.rows import Row

__all__ = ["METRIC", "Curve", "curve_figure", "curves_in"]

#: The metric whose remark holds the curves.
METRIC = "largest_slope"
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_LINE = rf"{_NUMBER}(?:,{_NUMBER})*"
_REMARK = re.compile(
    rf"x from (?P<low>{_NUMBER}) to (?P<high>{_NUMBER}): (?P<lines>{_LINE}(?:/{_LINE}){{2}})"
)
#: How each is called, and dashed: colour alone would not tell them apart.
_LOOKS = (("φ", ""), ("φ′", "7 4"), ("φ″", "2 3"))
_WIDTH, _HEIGHT = 300, 200
#: The heights that are shown at the most; what leaves them is cut.
_HIGHEST, _LOWEST = 4.0, -2.0


@dataclass(frozen=True)
class Curve:
    """The curves of one activation.

    Args:
        variant: Its name.
        largest_slope: The largest size of φ′.
        ends: The least and the largest x.
        lines: φ, φ′ and φ″ at equal steps of x.
    """

    variant: str
    largest_slope: float
    ends: tuple[float, float]
    lines: tuple[tuple[float, ...], ...]


def curves_in(rows: Iterable[Row]) -> dict[str, Curve]:
    """The curves among the records, by variant; what is none is left out."""
    found = {}
    for row in rows:
        remark = _REMARK.fullmatch(row.reason) if row.metric == METRIC else None
        if remark and row.value is not None:
            lines = tuple(tuple(map(float, line.split(","))) for line in remark["lines"].split("/"))
            ends = float(remark["low"]), float(remark["high"])
            if len({len(line) for line in lines}) == 1 and len(lines[0]) > 1:
                found[row.axes["variant"]] = Curve(row.axes["variant"], row.value, ends, lines)
    return found


@dataclass(frozen=True)
class _Frame:
    """Where numbers stand in the picture."""

    left: float
    right: float
    low: float
    high: float

    def across(self, x: float) -> float:
        return (x - self.left) / (self.right - self.left) * _WIDTH

    def down(self, y: float) -> float:
        return (self.high - y) / (self.high - self.low) * _HEIGHT

    def grid(self) -> Iterator[str]:
        for y in range(round(self.low), round(self.high) + 1):
            at = self.down(y)
            axis = ' class="zero"' if y == 0 else ""
            yield f'<path{axis} d="M0 {at:.1f}h{_WIDTH}"/><text x="-6" y="{at + 4:.1f}">{y}</text>'
        for x in range(math.ceil(self.left), math.floor(self.right) + 1, 2):
            axis = ' class="zero"' if x == 0 else ""
            at = self.across(x)
            yield f'<path{axis} d="M{at:.1f} 0v{_HEIGHT}"/>'
            yield f'<text class="x" x="{at:.1f}" y="{_HEIGHT + 16}">{x}</text>'

    def path(self, line: Sequence[float]) -> Iterator[str]:
        """Strokes through what lies within."""
        step = _WIDTH / (len(line) - 1)
        pen = "M"
        for i, y in enumerate(line):
            if self.low <= y <= self.high:
                yield f"{pen}{i * step:.1f} {self.down(y):.1f}"
            pen = "L" if self.low <= y <= self.high else "M"


def curve_figure(curve: Curve) -> str:
    """The three curves on common axes, as HTML."""
    inside = [min(max(v, _LOWEST), _HIGHEST) for line in curve.lines for v in line]
    low, high = math.floor(min(inside)), math.ceil(max(inside))
    low, high = (low, high) if low < high else (low - 1, high + 1)
    left, right = curve.ends
    frame = _Frame(left, right, low, high)
    told = html.escape(
        f"{curve.variant}: φ, φ′ and φ″ for x from {left:g} to {right:g}; "
        f"the largest slope is {curve.largest_slope:.4g}"
    )
    lines = "".join(
        f'<path class="curve c{i}" stroke-dasharray="{dash}" d="{"".join(frame.path(line))}"/>'
        for i, ((_, dash), line) in enumerate(zip(_LOOKS, curve.lines, strict=True))
    )
    key = "".join(
        f'<span><svg viewBox="0 0 28 8" class="key" aria-hidden="true"><path class="curve c{i}" '
        f'stroke-dasharray="{dash}" d="M0 4h28"/></svg>{name}</span>'
        for i, (name, dash) in enumerate(_LOOKS)
    )
    return (
        f'<figure class="phi"><svg viewBox="-28 -8 {_WIDTH + 36} {_HEIGHT + 30}" role="img" '
        f'aria-label="{told}">{"".join(frame.grid())}{lines}</svg><figcaption>{key}'
        f"<span>largest |φ′| {curve.largest_slope:.4g}</span></figcaption></figure>"
    )
