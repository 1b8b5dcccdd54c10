"""Gradient flow as Vega-Lite charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bakeoff.reports.flow import Stacked
from bakeoff.reports.units import number

__all__ = ["by_layer", "ratios"]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_ROW_PIXELS = 17
_LOG = {"type": "log", "nice": False, "padding": 12}
_POWERS = {"format": ".0e", "tickCount": 6}


def ratios(stacks: Sequence[Stacked]) -> dict[str, Any]:
    """The gradient at the first layer ÷ at the last, a dot each with its interval."""
    values = []
    for stack in stacks:
        row = stack.rows.get("grad_norm_ratio")
        if row and row.value:
            ends = {"low": row.low or row.value, "high": row.high or row.value}
            told = f"{number(row.value)} ({number(ends['low'])} to {number(ends['high'])})"
            values.append({"name": stack.name, "value": row.value, **ends, "told": told})
    y = {
        "field": "name",
        "type": "nominal",
        "sort": [stack.name for stack in stacks],
        "axis": {"title": None, "grid": True, "labelLimit": 260},
    }
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": _LOG,
        "axis": {"title": "gradient at the first layer ÷ at the last", **_POWERS},
    }
    rule = {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}}
    tooltip = [{"field": "name", "title": "variant"}, {"field": "told", "title": "ratio"}]
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": {"step": _ROW_PIXELS},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "color": "#888"}, "encoding": rule},
            {
                "mark": {"type": "point", "filled": True, "size": 50},
                "encoding": {"y": y, "x": x, "tooltip": tooltip},
            },
        ],
    }


def by_layer(stacks: Sequence[Stacked]) -> dict[str, Any]:
    """The norm of the gradient in each layer, relative to the last, a line each."""
    values = []
    for stack in stacks:
        norms = stack.layers("grad_norm")
        if norms and norms[-1]:
            values += [
                {"name": stack.name, "layer": layer, "value": norm / norms[-1]}
                for layer, norm in enumerate(norms, start=1)
                if norm
            ]
    x = {"field": "layer", "type": "quantitative", "axis": {"format": "d"}}
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": _LOG,
        "axis": {"title": "gradient ÷ at the last layer", **_POWERS},
    }
    colour = {"field": "name", "type": "nominal", "legend": {"title": None}}
    tooltip = [{"field": name} for name in ("name", "layer", "value")]
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": 300,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": values},
        "mark": {"type": "line", "strokeWidth": 1.5, "point": {"filled": True, "size": 40}},
        "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
    }
