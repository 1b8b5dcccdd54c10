"""Tables as Vega-Lite charts, plain dicts: lines over N, or dots where there are few lengths.

Nothing is told by colour alone: lines and lengths have shapes too, and hovering names every mark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bakeoff.reports.tables import Table, leaders
from bakeoff.reports.units import human, interval

__all__ = ["SCALED", "chart"]

#: More lines than this can't be told apart: the others are grey.
_MOST_LINES = 8
#: Fewer lengths than this make no line.
_LEAST_LENGTHS = 3
_ROW_PIXELS = 17


def chart(table: Table) -> dict[str, Any]:
    """The chart of a table, without its data's looks: the page brings colours and fonts."""
    lines = len(table.lengths) >= _LEAST_LENGTHS
    marks = _lines(table) if lines else _dots(table)
    size = {"height": 300} if lines else {"height": {"step": _ROW_PIXELS}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        **size,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": _values(table)},
        "layer": [*_ground(table, "y" if lines else "x"), *marks],
    }


def _values(table: Table) -> list[dict[str, Any]]:
    rows = []
    for rival, length, entry, value in table.measured():
        low, high = (value if end is None else end for end in (entry.low, entry.high))
        known = entry.low is not None and entry.high is not None
        known = known and entry.difference != "baseline"
        told = {
            "told": human(value, table.unit),
            "interval": interval(low, high, table.unit) if known else "-",
            "n": entry.n,
            "says": entry.difference or "-",
        }
        rows.append({"rival": rival, "N": length, "value": value, "low": low, "high": high, **told})
    return rows


def _lines(table: Table) -> list[dict[str, Any]]:
    """A line for each; of many, all but the leaders are grey, and the nearest is named."""
    # By name and not by rank, so that a rival keeps its colour from case to case.
    named = sorted(_leading(table))
    colour = {**_field("rival", "nominal", named), "legend": {"title": None}}
    x = {
        "field": "N",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "nice": False},
        "axis": {"values": list(table.lengths), "format": "d", "title": "length N"},
    }
    y = {**_value_axis(table), "scale": _scale(table)}
    ours = [{"filter": {"field": "rival", "oneOf": named}}]
    line = {
        "transform": ours,
        "mark": {"type": "line", "strokeWidth": 1.5, "point": {"filled": True, "size": 55}},
        "encoding": {"x": x, "y": y, "color": colour, "shape": colour, "tooltip": _tooltip()},
    }
    rule = {
        "transform": ours,
        "mark": {"type": "rule", "color": "#888"},
        "encoding": {"x": x, **_ends("y")},
    }
    if len(named) == len(table.rivals):
        return [rule, line]
    return [*_grey(x, y, named), rule, line]


def _grey(x: dict[str, Any], y: dict[str, Any], named: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of all others, and in full strength the one that is pointed at."""
    rest = {"filter": {"not": {"field": "rival", "oneOf": list(named)}}}
    base = {"x": x, "y": y, "detail": {"field": "rival", "type": "nominal"}}
    lines = {
        "transform": [rest],
        "mark": {"type": "line", "color": "#888", "strokeWidth": 1},
        "encoding": {**base, "opacity": {"condition": {"param": "near", "empty": False, "value": 1},
                                         "value": 0.3}},
    }  # fmt: skip
    point = {"type": "point", "on": "pointerover", "nearest": True, "fields": ["rival"]}
    marks = {
        "transform": [rest],
        "params": [{"name": "near", "select": {**point, "clear": "pointerout"}}],
        "mark": {"type": "point", "color": "#888", "size": 20, "filled": True},
        "encoding": {**base, "tooltip": _tooltip()},
    }
    return [lines, marks]


def _leading(table: Table) -> list[str]:
    """The rivals with a colour: all where they are few, else the baseline and who leads."""
    if len(table.rivals) <= _MOST_LINES:
        return list(table.rivals)
    first = [found.first for n in table.lengths if (found := leaders(table, n))]
    baseline = [table.baseline] if table.baseline in table.rivals else []
    # Rivals are ranked: those that lead at the largest length fill up what is left.
    return list(dict.fromkeys([*baseline, *first, *table.rivals]))[:_MOST_LINES]


def _dots(table: Table) -> list[dict[str, Any]]:
    lengths = [str(length) for length in table.lengths]
    colour = {**_field("N", "ordinal", lengths), "legend": {"title": "length N"}}
    colour["scale"] = {"domain": list(table.lengths)}
    y = {
        "field": "rival",
        "type": "nominal",
        "sort": list(table.rivals),
        "axis": {"title": None, "grid": True, "labelLimit": 260},
    }
    x = {**_value_axis(table), "scale": _scale(table)}
    rule = {"mark": "rule", "encoding": {"y": y, "color": colour, **_ends("x")}}
    point = {
        "mark": {"type": "point", "filled": True, "size": 50},
        "encoding": {"y": y, "x": x, "color": colour, "shape": colour, "tooltip": _tooltip()},
    }
    return [rule, point]


def _ground(table: Table, axis: str) -> list[dict[str, Any]]:
    """Behind ratios: the baseline, and how far from it two equals may come out."""
    if not table.baseline:
        return []
    floor = max((entry.floor or 1.0 for _, _, entry, _ in table.measured()), default=1.0)
    band = {
        "data": {"values": [{"from": 1 / floor, "to": floor}]},
        "mark": {"type": "rect", "opacity": 0.15, "color": "#888"},
        "encoding": {
            axis: {"field": "from", "type": "quantitative"},
            f"{axis}2": {"field": "to"},
        },
    }
    one = {
        "data": {"values": [{"one": 1}]},
        "mark": {"type": "rule", "color": "#888", "strokeDash": [4, 3]},
        "encoding": {axis: {"field": "one", "type": "quantitative"}},
    }
    return [band, one]


def _field(name: str, kind: str, order: Sequence[str]) -> dict[str, Any]:
    return {"field": name, "type": kind, "sort": list(order)}


def _value_axis(table: Table) -> dict[str, Any]:
    if table.baseline:
        title, numbers = f"time ÷ {table.baseline}", "format(datum.value, '.3~g')"
    else:
        title = table.metric.replace("_", " ")
        numbers = SCALED.get(table.unit, "format(datum.value, '.3~s')")
        title += f" ({table.unit})" if table.unit and table.unit not in SCALED else ""
    axis = {"title": title, "labelExpr": numbers, "tickCount": 6, "labelSeparation": 8}
    if table.baseline:
        axis["values"] = _round_numbers([value for _, _, _, value in table.measured()])
    return {"field": "value", "type": "quantitative", "axis": axis}


def _round_numbers(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each power of ten among the values."""
    low, high = (math.floor(math.log10(end)) for end in (min(values), max(values)))
    return [float(f"{m}e{e}") for e in range(low, high + 1) for m in (1, 2, 5)]


#: Axis labels in units that people read.
SCALED = {
    "bytes": "datum.value >= 1073741824 ? format(datum.value / 1073741824, '.3~g') + ' GiB' : "
    "datum.value >= 1048576 ? format(datum.value / 1048576, '.3~g') + ' MiB' : "
    "datum.value >= 1024 ? format(datum.value / 1024, '.3~g') + ' KiB' : datum.value + ' B'",
    "s": "datum.value >= 1 ? format(datum.value, '.3~g') + ' s' : "
    "datum.value >= 1e-3 ? format(datum.value * 1e3, '.3~g') + ' ms' : "
    "format(datum.value * 1e6, '.3~g') + ' µs'",
}


def _scale(table: Table) -> dict[str, Any]:
    """Logarithmic, for equal ratios are equal lengths; a zero has no logarithm."""
    positive = all(value > 0 for _, _, _, value in table.measured())
    base = 2 if table.unit == "bytes" else 10
    kind: dict[str, Any] = {"type": "log", "base": base} if positive else {"type": "symlog"}
    return {**kind, "nice": False, "padding": 12}


def _ends(axis: str) -> dict[str, Any]:
    return {axis: {"field": "low", "type": "quantitative"}, f"{axis}2": {"field": "high"}}


def _tooltip() -> list[dict[str, Any]]:
    return [
        {"field": "rival", "title": "forward"},
        {"field": "N"},
        {"field": "told", "title": "value"},
        {"field": "interval", "title": "95% interval"},
        {"field": "n"},
        {"field": "says", "title": "to the baseline"},
    ]
