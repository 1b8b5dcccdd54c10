"""From what was asked for to the jobs that are left: cells, their identity, and shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UsageError
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Cell
from bakeoff.suites.selection import SINGLE, selection_for
from bakeoff.suites.spec import Job, suites_of

__all__ = ["Shard", "planned", "without"]

#: Which part of a run is done: (i, N), from (1, N) to (N, N).
Shard = tuple[int, int]


def planned(
    catalog: Catalog,
    suites: str | Iterable[str],
    preset: str,
    axes: Mapping[str, Any],
    shard: Shard = (1, 1),
) -> list[Job]:
    """Every job of the selection, or those of one shard; no results file is needed for it.

    Jobs are dealt out in turn, so that each shard gets its part of every suite, and the same part
    wherever the same is asked of the same catalog.

    Raises:
        UnknownNameError: For a suite, preset, axis or name that is not known.
        UsageError: For a value that an axis can't take, or where nothing is selected.
    """
    names = (suites,) if isinstance(suites, str) else tuple(suites)
    given = {n: value if n in SINGLE else _as_tuple(value) for n, value in axes.items()}
    selections = {
        suite: selection_for(preset, suite.name, given)
        for suite in suites_of(catalog, names).values()
        if names or not suite.on_request
    }
    jobs = [job for suite, chosen in selections.items() for job in suite.plan(catalog, chosen)]
    if all(job.for_others for job in jobs):
        raise UsageError("nothing is selected: no suite has a cell for these names and axes")
    index, count = _checked(shard)
    dealt = [job for job in jobs if not job.for_others]
    mine = {id(job) for job in dealt[index - 1 :: count]}
    return [job for job in jobs if job.for_others or id(job) in mine]


def without(
    jobs: Iterable[Job], keys: Mapping[Cell, Identified], stored: set[str]
) -> tuple[list[Job], set[str]]:
    """The jobs with the cells that are left to measure, and the keys of all that were planned.

    A cell that stands in two jobs is measured in the first.
    """
    pending, seen = [], set[str]()
    for job in jobs:
        fresh = {cell: keys[cell].key for cell in job.cells if keys[cell].key not in seen}
        seen |= set(fresh.values())
        cells = tuple(cell for cell, key in fresh.items() if key not in stored)
        if cells:
            pending.append(replace(job, cells=cells))
    return pending, seen


def _checked(shard: Shard) -> Shard:
    index, count = shard
    if not 1 <= index <= count:
        raise UsageError(f"shard: got {index}/{count}, expected i/N with i from 1 to N")
    return shard


def _as_tuple(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_tuple(values) for name, values in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(value)
    return (value,) if isinstance(value, (str, int)) and not isinstance(value, bool) else value
