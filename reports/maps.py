"""Who attends to whom, as the accuracy suite stored it, and how it is drawn."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bakeoff.reports.rows import Row

__all__ = ["METRIC", "Picture", "anchor_of", "figure", "map_markup", "pictures_of", "shaded"]

#: The metric whose remark holds the map.
METRIC = "attended_share"
#: A row of digits for each query; then the options under which it shows.
_REMARK = re.compile(r"(?P<rows>\d+(?:/\d+)*)(?: with (?P<options>.+))?")
#: Nothing, and how dark each digit from 1 to 9 is.
_SHADES = " ░░░▒▒▒▓▓█"


@dataclass(frozen=True)
class Picture:
    """One map.

    Args:
        variant: Of which variant.
        pattern: Under which pattern.
        share: Pairs of which the key has any influence, as a share.
        rows: A digit for each pair: 0 for none, else up to 9 for the largest of its query.
        options: Options that differ from their defaults, as text.
    """

    variant: str
    pattern: str
    share: float
    rows: tuple[str, ...]
    options: str = ""

    @property
    def told(self) -> str:
        """In words."""
        options = f", {self.options}" if self.options else ""
        return f"{self.pattern}: {self.share:.0%} of all pairs{options}"


def pictures_of(rows: Iterable[Row]) -> list[Picture]:
    """Every map among the records; what is none is left out."""
    found = {}
    for row in rows:
        remark = _REMARK.fullmatch(row.reason)
        if row.metric == METRIC and row.value is not None and remark:
            pattern = str(row.axes["pattern"])
            found[row.axes["variant"], pattern] = Picture(
                row.axes["variant"],
                pattern,
                row.value,
                tuple(remark["rows"].split("/")),
                remark["options"] or "",
            )
    return list(found.values())


def shaded(rows: Sequence[str]) -> Iterator[str]:
    """Lines for a terminal, two characters a pair, so that the map is about square."""
    for row in rows:
        yield "".join(_SHADES[int(digit)] * 2 for digit in row).rstrip()


def anchor_of(picture: Picture) -> str:
    """By which a map is drawn once more elsewhere on a page."""
    return re.sub(r"\s+", "-", f"map-{picture.variant}-{picture.pattern}")


def figure(variant: str, pictures: Iterable[Picture]) -> str:
    """The maps of a variant side by side, as HTML."""
    drawn = "".join(map_markup(p, _paths(p, anchor_of(p))) for p in pictures)
    name = html.escape(variant)
    caption = f"<figcaption><code>{name}</code></figcaption>"
    return f'<figure data-variant="{name}">{caption}{drawn}</figure>'


def map_markup(picture: Picture, inside: str = "") -> str:
    """A map with these paths, by default those that stand elsewhere on the page."""
    inside = inside or f'<use href="#{html.escape(anchor_of(picture))}"/>'
    size = f"{max(map(len, picture.rows))} {len(picture.rows)}"
    told = html.escape(f"{picture.variant}, {picture.told}")
    drawn = f'<svg viewBox="0 0 {size}" role="img" aria-label="{told}">{inside}</svg>'
    return f'<div class="map">{drawn}<span>{html.escape(picture.told)}</span></div>'


def _paths(picture: Picture, anchor: str) -> str:
    """A stroke for each run of equal pairs of a row, and a path for each depth."""
    strokes: dict[str, list[str]] = {}
    for y, row in enumerate(picture.rows):
        x = 0
        for digit, run in groupby(row):
            length = len(list(run))
            if digit != "0":
                strokes.setdefault(digit, []).append(f"M{x} {y}.5h{length}")
            x += length
    paths = "".join(
        f'<path d="{"".join(runs)}" opacity=".{digit}"/>' for digit, runs in sorted(strokes.items())
    )
    return f'<g id="{html.escape(anchor)}">{paths}</g>'
