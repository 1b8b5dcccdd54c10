"""Axes in words: what a table holds fixed, and in which axes tables differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bakeoff.reports.rows import plain

__all__ = ["FACETS", "describe", "facets", "plural", "varying", "verbal"]

#: One level of a grid, as records hold it: [8, 12].
_LEVEL = re.compile(r"\[(\d+), (\d+)\]")

#: The axes by which a reader of the page may choose what to see.
FACETS = ("kind", "device", "dtype", "pattern", "direction")


def facets(fixed: Mapping[str, Any]) -> dict[str, str]:
    """Those of a table's fixed axes by which a reader may choose.

    Example:
        >>> facets({"suite": "speed", "kind": "attention", "pattern": "self", "dtype": None})
        {'kind': 'attention', 'pattern': 'self'}
    """
    return {axis: str(fixed[axis]) for axis in FACETS if fixed.get(axis) is not None}


def varying(tables: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The axes in which some of these differ, in their order."""
    tables = list(tables)
    names = dict.fromkeys(name for table in tables for name in table)
    return tuple(name for name in names if len({repr(t.get(name)) for t in tables}) > 1)


def describe(fixed: Mapping[str, Any], only: Iterable[str] | None = None) -> str:
    """What is held fixed; with ``only``, these axes alone.

    Example:
        >>> describe({"pattern": "self", "heads": 4, "grid": None, "dtype": "float32"})
        'self, 4 heads, float32'
    """
    names = fixed if only is None else only
    return ", ".join(text for name in names if (text := verbal(name, fixed.get(name))))


def verbal(axis: str, value: Any) -> str:
    """One axis and its value, as a phrase; empty where it says nothing.

    Example:
        >>> verbal("threads", 1), verbal("batch", 2), verbal("grid", "[[8, 12], [4, 6]]")
        ('1 thread', 'batch 2', 'grid 8×12 + 4×6')
    """
    if value is None or axis in ("kind", "suite"):
        return ""
    match axis:
        case "pattern" | "dtype" | "device" | "direction" | "mode" | "keys":
            return str(value)
        case "inputs":
            return f"{value} inputs"
        case "threads" | "heads" | "features":
            return plural(value, axis[:-1])
        case "baseline":
            return f"baseline {value}"
        case "grid":
            levels = _LEVEL.findall(str(value))
            return f"grid {' + '.join(f'{h}×{w}' for h, w in levels) or value}"
        case "extra":
            return ", ".join(f"{name} {item}" for name, item in plain(value).items())
        case _:
            return f"{axis.replace('_', ' ')} {value}"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "cell"), plural(0, "cell")
        ('1 cell', '0 cells')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
