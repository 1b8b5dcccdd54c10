"""Races that were repeated in several processes: one row instead of one a launch."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scipy import special

from bakeoff.reports.rows import Row, plain

__all__ = ["pooled"]


def pooled(rows: Iterable[Row]) -> list[Row]:
    """The rows, those that differ in the launch alone made one.

    A process differs from the next by more than its interval says (in memory layout, in what the
    machine does beside): the interval of the geometric mean comes from how far the launches lie
    apart, by Student's t. Where one launch failed, its row stands for all.
    """
    alone, groups = [], dict[str, list[Row]]()
    for row in rows:
        if '"launch"' not in (row.axes["extra"] or ""):
            alone.append(row)
            continue
        extra = plain(row.axes["extra"])
        del extra["launch"]
        key = repr([row.environment, row.metric, {**row.axes, "extra": extra}])
        groups.setdefault(key, []).append(row)
    cells: dict[str, int] = {}
    for group in groups.values():
        row = _one(group)
        # All metrics of a pooled cell share a number, as those of any cell do.
        cell = cells.setdefault(repr([row.environment, row.axes]), row.cell)
        alone.append(replace(row, cell=cell))
    return alone


def _one(launches: Sequence[Row]) -> Row:
    first = next((row for row in launches if row.failed), launches[0])
    extra = plain(first.axes["extra"])
    del extra["launch"]
    extra["launches"] = len(launches)
    axes = {**first.axes, "extra": json.dumps(extra, sort_keys=True)}
    latest = max(row.measured_at for row in launches)
    pooled = replace(first, axes=axes, measured_at=latest)
    values = [row.value for row in launches if row.value is not None]
    if first.failed or not values:
        return pooled
    if first.metric == "noise_floor":
        # What lies apart within a process is averaged: the largest would be a floor for one launch.
        return replace(pooled, value=statistics.geometric_mean(values), n=len(values))
    if first.low is None or min(values) <= 0:
        return replace(pooled, value=statistics.median(values), n=len(values))
    logs = [math.log(value) for value in values]
    centre, low, high = statistics.fmean(logs), None, None
    if len(logs) > 1:
        error = statistics.stdev(logs) / math.sqrt(len(logs))
        reach = float(special.stdtrit(len(logs) - 1, 0.975)) * error
        low, high = math.exp(centre - reach), math.exp(centre + reach)
    return replace(pooled, value=math.exp(centre), low=low, high=high, n=len(logs))
