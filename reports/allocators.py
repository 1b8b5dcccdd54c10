"""The same races under the system's allocator and under a tuned one: where verdicts differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.tables import Table

__all__ = ["Differing", "differing", "is_tuned"]


@dataclass(frozen=True)
class Differing:
    """A rival on which the two allocators lead to different verdicts.

    Args:
        rival: The rival.
        length: N.
        fixed: The axes that are the same for both.
        system: What it came to under the system's allocator: the ratio and the verdict.
        tuned: Likewise under the tuned one.
    """

    rival: str
    length: int
    fixed: Mapping[str, Any]
    system: tuple[float, str]
    tuned: tuple[float, str]


def is_tuned(description: Mapping[str, Any]) -> bool:
    """Whether an environment sets the allocator: its numbers are no user's."""
    return bool(description.get("malloc"))


def differing(places: Iterable[tuple[Mapping[str, Any], Iterable[Table]]]) -> list[Differing]:
    """Pairs of places that differ in the allocator alone, and the ratios that it decides.

    Args:
        places: For each environment its description and its tables of ratios.
    """
    entries: dict[str, dict[bool, tuple[str, int, Mapping[str, Any], tuple[float, str]]]] = {}
    for description, tables in places:
        machine = {name: value for name, value in description.items() if name != "malloc"}
        for table in tables:
            for rival, length, entry, value in table.measured():
                key = json.dumps([machine, dict(table.fixed), rival, length], default=str)
                found = (rival, length, table.fixed, (value, entry.difference))
                entries.setdefault(key, {})[is_tuned(description)] = found
    both = [(pair[False], pair[True][3]) for pair in entries.values() if len(pair) == 2]
    return [Differing(*system, tuned) for system, tuned in both if system[3][1] != tuned[1]]
