"""How costs grow, as Vega-Lite charts: fitted exponents, and from which length who is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bakeoff.reports.blocks import Figure
from bakeoff.reports.rows import Row
from bakeoff.reports.scaling import Scaling
from bakeoff.reports.units import number
from bakeoff.reports.words import describe, facets

__all__ = ["growth_figures"]

_TITLES = {
    "time_exponent": "exponent p of the time, fitted by a + b·N^p",
    "crossover_length": "faster than the baseline from this length N on",
}


def growth_figures(scaling: Scaling) -> Iterator[Figure]:
    """One for the exponents and one for the crossovers, where there is any number."""
    for metric, title in _TITLES.items():
        rows = [r for r in scaling.found.values() if r.metric == metric and r.value is not None]
        if metric == "crossover_length":
            rows = [row for row in rows if not row.control]
        if rows:
            told = f"{title[0].upper()}{title[1:]}: {describe(scaling.fixed)}."
            yield Figure(_chart(rows, title, metric), told, facets(scaling.fixed))


def _chart(rows: Sequence[Row], title: str, metric: str) -> dict[str, Any]:
    """A dot a forward with its interval, the least first; controls last."""
    lengths = metric == "crossover_length"
    scale = {"type": "log", "base": 2} if lengths else {"zero": False}
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {**scale, "nice": False, "padding": 12},
        "axis": {
            "title": title,
            "tickCount": 6,
            "labelSeparation": 8,
            "format": "~r" if lengths else "~g",
        },
    }
    y = {
        "field": "rival",
        "type": "nominal",
        "sort": list(dict.fromkeys(row.rival for row in sorted(rows, key=_place))),
        "axis": {"title": None, "grid": True, "labelLimit": 260},
    }
    kinds = list(dict.fromkeys(str(row.axes["direction"]) for row in rows))
    colour = {
        "field": "direction",
        "type": "nominal",
        "legend": {"title": None} if len(kinds) > 1 else None,
    }
    ends = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
    tooltip = [
        {"field": "rival", "title": "forward"},
        {"field": "direction"},
        {"field": "told", "title": "value"},
        {"field": "interval", "title": "95% interval"},
        {"field": "remark"},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": {"step": 17},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": [_value(row) for row in rows]},
        "layer": [
            {"mark": "rule", "encoding": {"y": y, "color": colour, **ends}},
            {
                "mark": {"type": "point", "filled": True, "size": 55},
                "encoding": {"y": y, "x": x, "color": colour, "shape": colour, "tooltip": tooltip},
            },
        ],
    }


def _place(row: Row) -> tuple[bool, float]:
    assert row.value is not None
    return row.control, row.value


def _value(row: Row) -> dict[str, Any]:
    assert row.value is not None
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    known = row.low is not None and row.high is not None
    return {
        "rival": row.rival,
        "direction": row.axes["direction"],
        "value": row.value,
        "low": low,
        "high": high,
        "told": number(row.value),
        "interval": f"{number(low)} to {number(high)}" if known else "-",
        "remark": row.reason or "-",
    }
