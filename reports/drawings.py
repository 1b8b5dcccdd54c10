"""Every figure of a report as a picture of its own: Vega-Lite, SVG or PNG, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.blocks import Block, Chart, Figure, Heading, Maps
from bakeoff.reports.charts import chart
from bakeoff.reports.maps import Picture

__all__ = ["Drawing", "drawings"]

_WIDTH = 640
#: Pixels in a PNG for each of the drawing: sharp in print.
_SCALE = 2
_LOOKS = {
    "background": "white",
    "padding": 12,
    "font": "system-ui, Helvetica, Arial, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "legend": {"labelFontSize": 12, "labelLimit": 300, "symbolLimit": 0},
    "title": {"fontSize": 13, "anchor": "start", "fontWeight": "normal"},
}


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Args:
        title: What it shows: the headings above it, and its metric.
        spec: A complete Vega-Lite chart.
    """

    title: str
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The title as the name of a file: lower-case letters, digits and hyphens.

        Example:
            >>> Drawing("Attention, speed: self (ratio)", {}).name
            'attention-speed-self-ratio'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:100] or "figure"

    def svg(self) -> str:
        """As SVG."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(json.dumps(self.spec)))

    def png(self) -> bytes:
        """As PNG, at twice the size."""
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(json.dumps(self.spec), scale=_SCALE))

    def _repr_svg_(self) -> str:
        """How a notebook shows it."""
        return self.svg()


def drawings(blocks: Iterable[Block]) -> Iterator[Drawing]:
    """Every chart, figure and map among the blocks, in their order."""
    above: dict[int, str] = {}
    for block in blocks:
        told = ", ".join(text for level, text in sorted(above.items()) if level > 1)
        match block:
            case Heading(level=level, text=text):
                above = {n: title for n, title in above.items() if n < level} | {level: text}
            case Chart(table=table):
                yield _drawing(f"{told}: {table.metric.replace('_', ' ')}", chart(table))
            case Figure(spec=spec):
                yield _drawing(told, spec)
            case Maps(heading=heading, pictures=pictures):
                for picture in pictures:
                    title = f"{heading.text}: {picture.variant}, {picture.told}"
                    yield _drawing(title, _map(picture))


def _drawing(title: str, spec: Mapping[str, Any]) -> Drawing:
    size = {"width": _WIDTH} if spec.get("width") == "container" else {}
    looks = {**_LOOKS, **spec.get("config", {})}
    return Drawing(title, {"title": title, **spec, **size, "config": looks})


def _map(picture: Picture) -> dict[str, Any]:
    """Queries down, keys across; the darker, the more."""
    values = [
        {"query": i, "key": j, "share": int(digit)}
        for i, row in enumerate(picture.rows)
        for j, digit in enumerate(row)
        if digit != "0"
    ]
    bare = {"labels": False, "ticks": False, "grid": False}
    sides = {
        axis: {
            "field": name,
            "type": "ordinal",
            "axis": bare,
            "scale": {"domain": list(range(len(picture.rows)))},
        }
        for axis, name in (("x", "key"), ("y", "query"))
    }
    scale = {"domain": [0, 9], "range": [0, 1]}
    shade = {"field": "share", "type": "quantitative", "scale": scale, "legend": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": 256,
        "height": 256,
        "data": {"values": values},
        "mark": {"type": "rect", "color": "black"},
        "encoding": {**sides, "opacity": shade},
    }
