"""Why a cell is measured again, or not: what changed since something like it was stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.suites.identity import Identified
from bakeoff.suites.records import AXES, Cell
from bakeoff.suites.store import Results

__all__ = ["STORED", "Explanation", "explanations"]

STORED = "stored already"
NEW = "never measured in this file"


@dataclass(frozen=True)
class Explanation:
    """What a run would do with a cell, and why.

    Args:
        cell: The cell.
        reason: :data:`STORED`, or why it would be measured.
    """

    cell: Cell
    reason: str

    @property
    def measures(self) -> bool:
        """Whether the run would measure it."""
        return self.reason != STORED


@dataclass(frozen=True)
class _Stored:
    """What is known of a stored cell beside its axes."""

    key: str
    sources: str
    inputs: str
    environment: Mapping[str, Any]
    control: bool
    suite_version: int


def explanations(keys: Mapping[Cell, Identified], results: Results | None) -> list[Explanation]:
    """One for each cell, in their order.

    Args:
        keys: The cells, with their identities.
        results: What is stored; None where there is no file yet.
    """
    stored = {} if results is None else _stored(results)
    return [
        Explanation(cell, _why(cell, own, stored.get(_place(cell.axes()), ())))
        for cell, own in keys.items()
    ]


def _why(cell: Cell, own: Identified, stored: Iterable[_Stored]) -> str:
    earlier = list(stored)
    if any(found.key == own.key for found in earlier):
        return STORED
    if not earlier:
        return NEW
    # Of several, what is nearest: the one from which the least differs.
    nearest = sorted((_differences(cell, own, found) for found in earlier), key=len)
    return "; ".join(nearest[0])


def _differences(cell: Cell, own: Identified, found: _Stored) -> list[str]:
    told = []
    if found.suite_version != cell.suite_version:
        told.append(
            f"the suite {cell.suite} is version {cell.suite_version} now, was {found.suite_version}"
        )
    if found.sources != own.sources:
        told.append(
            f"the source of {cell.variant}, or of what it calls or is compared with, changed"
        )
    if found.inputs != own.inputs:
        told.append("the file of inputs changed")
    if found.control != own.control:
        told.append(f"{cell.variant} is {'a' if own.control else 'no'} control now")
    names = sorted({*found.environment, *own.environment})
    told += [
        f"{name} is {own.environment.get(name)} now, was {found.environment.get(name)}"
        for name in names
        if found.environment.get(name) != own.environment.get(name)
    ]
    return told


def _stored(results: Results) -> dict[str, list[_Stored]]:
    environments = results.environments()
    with results.reading() as db:
        rows = db.execute(
            "SELECT key, sources, inputs_digest, environment, control, "
            f"{', '.join(AXES)} FROM cells"
        ).fetchall()
    found: dict[str, list[_Stored]] = {}
    for key, sources, inputs, environment, control, *values in rows:
        axes = dict(zip(AXES, values, strict=True))
        machine = environments[environment]
        known = _Stored(key, sources, inputs, machine, bool(control), axes["suite_version"])
        found.setdefault(_place(axes), []).append(known)
    return found


def _place(axes: Mapping[str, Any]) -> str:
    """The axes but for the suite's version."""
    return json.dumps([value for axis, value in axes.items() if axis != "suite_version"])
