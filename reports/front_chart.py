"""The Pareto front as a Vega-Lite chart: time across, memory up, the error as a colour."""

from __future__ import annotations

import math
from typing import Any

from bakeoff.reports.charts import SCALED
from bakeoff.reports.fronts import Front, Point
from bakeoff.reports.units import human, number

__all__ = ["front_chart"]

#: How a forward stands, with the shape of its point.
_SHAPES = {"not beaten": "square", "beaten": "circle", "control, not ranked": "cross"}


def front_chart(front: Front) -> dict[str, Any]:
    """Squares with names are not beaten, circles are, by at least one other; crosses: controls."""
    x = {
        "field": "time",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 20},
        "axis": {"title": f"time ÷ {front.baseline}", "format": "~g", "tickCount": 6},
    }
    y = {
        "field": "peak",
        "type": "quantitative",
        "scale": {
            "type": "symlog",
            "constant": _least(front) / 4,
            "zero": False,
            "nice": False,
            "padding": 12,
        },
        "axis": {"title": "peak memory", "labelExpr": SCALED["bytes"], "values": _powers(front)},
    }
    shape = {
        "field": "beaten",
        "type": "nominal",
        "scale": {"domain": list(_SHAPES), "range": list(_SHAPES.values())},
        "legend": {"title": None},
    }
    colour = {"field": "error", "type": "ordinal", "legend": {"title": "error"},
              "sort": {"field": "decade"}}  # fmt: skip
    tooltip = [
        {"field": "rival", "title": "forward"},
        {"field": "time_told", "title": "time"},
        {"field": "peak_told", "title": "peak memory"},
        {"field": "error_told", "title": "error"},
        {"field": "beaten", "title": "front"},
    ]
    points = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.9},
        "encoding": {"x": x, "y": y, "shape": shape, "color": colour, "tooltip": tooltip},
    }
    names = [
        {
            "transform": [{"filter": f"datum.turn === {turn}"}],
            "mark": {"type": "text", "align": "left", "dx": 7, "dy": down, "fontSize": 11},
            "encoding": {"x": x, "y": y, "text": {"field": "rival"}},
        }
        for turn, down in enumerate((-7, 9))
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": 280,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": _values(front)},
        "layer": [points, *names],
    }


def _values(front: Front) -> list[dict[str, Any]]:
    """One row a point; the names of neighbours stand above and below in turn."""
    named = [point.rival for point in front.points if point.unbeaten or point.control]
    turns = {rival: i % 2 for i, rival in enumerate(named)}
    return [_value(point) | {"turn": turns.get(point.rival)} for point in front.points]


def _value(point: Point) -> dict[str, Any]:
    entry = point.time
    told = number(point.ratio)
    if entry.low is not None and entry.high is not None and entry.difference != "baseline":
        told += f" ({number(entry.low)} to {number(entry.high)})"
    exact = math.isinf(point.decade)
    return {
        "rival": point.rival,
        "time": point.ratio,
        "time_told": told,
        "peak": point.peak_bytes,
        "peak_told": human(point.peak_bytes, "bytes"),
        "decade": -999 if exact else point.decade,
        "error": "none" if exact else f"1e{point.decade:.0f}",
        "error_told": number(point.error),
        "beaten": _standing(point),
    }


def _standing(point: Point) -> str:
    if point.control:
        return "control, not ranked"
    return "not beaten" if point.unbeaten else "beaten"


def _least(front: Front) -> float:
    """The least size that is not zero."""
    return min((point.peak_bytes for point in front.points if point.peak_bytes > 0), default=1.0)


def _powers(front: Front) -> list[int]:
    """Zero where one needs nothing, and every second or fourth power of two among the sizes."""
    sizes = [point.peak_bytes for point in front.points]
    low, high = (math.floor(math.log2(end)) for end in (_least(front), max(*sizes, 1.0)))
    step = 2 if high - low <= 10 else 4
    ticks = [2**power for power in range(low - low % 2, high + 2, step)]
    return ([0] if min(sizes) == 0 else []) + ticks
