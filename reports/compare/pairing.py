"""Which environments, and which cells in them, are set against each other."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.rows import Row, plain
from bakeoff.suites.records import AXES

__all__ = ["Cells", "Pairing", "Place", "cells_of", "places_of"]

#: The metrics of a cell, each with the rows of its launches or seeds.
Cells = Mapping[str, Mapping[str, Sequence[Row]]]


@dataclass(frozen=True)
class Place:
    """Two environments whose cells are set against each other.

    Args:
        old: The digest of one.
        new: The digest of the other.
        differing: In what they differ: name, old, new.
    """

    old: str
    new: str
    differing: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Pairing:
    """Every environment of both files.

    Args:
        places: Those that are compared.
        alone: What was measured in an environment without a counterpart: the side, and why.
    """

    places: tuple[Place, ...]
    alone: tuple[tuple[str, str], ...] = ()


def places_of(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Pairing:
    """Equal environments first, then those that differ in the least; the allocator must agree.

    Args:
        old: The descriptions of the old environments, by digest.
        new: Likewise.
    """
    places = [Place(digest, digest) for digest in old if digest in new]
    left = [digest for digest in old if digest not in new]
    right = [digest for digest in new if digest not in old]
    candidates = sorted(
        (
            Place(a, b, tuple(_differing(old[a], new[b])))
            for a in left
            for b in right
            if old[a].get("malloc") == new[b].get("malloc")
        ),
        key=lambda place: len(place.differing),
    )
    for place in candidates:
        if place.old in left and place.new in right:
            left.remove(place.old)
            right.remove(place.new)
            places.append(place)
    alone = [("OLD", _name(old[a])) for a in left] + [("NEW", _name(new[b])) for b in right]
    return Pairing(tuple(places), tuple(alone))


def cells_of(rows: Iterable[Row], without: Collection[str]) -> Cells:
    """The cells, by a key that is the same for what is set against each other.

    Args:
        rows: The rows of one environment.
        without: Axes that may differ between the sides (the device), or that only repeat (the
            seed of what is learnt); the launch is always one of the latter.
    """
    cells: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        cells.setdefault(_key(row, without), {}).setdefault(row.metric, []).append(row)
    return cells


def _key(row: Row, without: Collection[str]) -> str:
    kept = [row.axes[axis] for axis in AXES if axis not in ("suite_version", "extra", *without)]
    extra = plain(row.axes["extra"] or "{}")
    extra.pop("launch", None)
    return json.dumps([*kept, extra], sort_keys=True, default=str)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield name, str(old.get(name, "-")), str(new.get(name, "-"))


def _name(description: Mapping[str, Any]) -> str:
    known = [str(description[name]) for name in ("cpu", "device") if description.get(name)]
    tuned = "with the allocator tuned" if description.get("malloc") else ""
    return ", ".join(filter(None, [*known, f"torch {description.get('torch', '?')}", tuned]))
