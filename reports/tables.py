"""Tables of what can be compared: rivals down, lengths across, everything else held fixed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.rows import FIXED, Row
from bakeoff.suites.differences import difference
from bakeoff.suites.records import CELL_METRIC

__all__ = ["Entry", "Leaders", "Table", "leaders", "tables_of"]

#: How the reason of a ratio names its baseline.
_TO = "to "


@dataclass(frozen=True)
class Entry:
    """What one rival came to at one length.

    Args:
        value: The number; None where there is none, and then the status says why.
        low: Lower end of the 95% interval, where there is one.
        high: Upper end.
        n: Number of samples.
        status: As in the record.
        reason: As in the record.
        difference: To the baseline, for a ratio, as of
            :func:`bakeoff.suites.differences.difference`; else empty.
        floor: The noise floor of its race, for a ratio.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int | None
    status: str
    reason: str
    difference: str = ""
    floor: float | None = None


@dataclass(frozen=True)
class Table:
    """One metric of rivals that ran the same case, against the length N.

    Args:
        suite: The suite.
        metric: The metric.
        unit: The unit of the values.
        fixed: The axes that are the same for every entry.
        lengths: N, ascending.
        rivals: Ranked: the least at the largest length first; then the controls.
        entries: By rival and length.
        unranked: Rivals left out because they are wrong.
        unsupported: Rivals left out because they support nothing here.
        controls: Rivals that are shown after the ranked ones, and never lead.
    """

    suite: str
    metric: str
    unit: str
    fixed: Mapping[str, Any]
    lengths: tuple[int, ...]
    rivals: tuple[str, ...]
    entries: Mapping[tuple[str, int], Entry]
    unranked: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """What the ratios are to; empty for other metrics."""
        return str(self.fixed.get("baseline") or "")

    def measured(self) -> Iterator[tuple[str, int, Entry, float]]:
        """Every entry that has a value, with it."""
        for (rival, length), entry in self.entries.items():
            if entry.value is not None:
                yield rival, length, entry, entry.value


@dataclass(frozen=True)
class Leaders:
    """Who has the least of one table's metric at one length.

    Args:
        length: That length.
        first: The rival with the least.
        entry: What it came to.
        tied: Rivals that this measurement cannot tell from the first: intervals that overlap or
            lie within the noise floor of each other, or exact values that are equal.
    """

    length: int
    first: str
    entry: Entry
    tied: tuple[str, ...]


def tables_of(
    rows: Iterable[Row],
    suite: str,
    metric: str,
    wrong: Collection[str] = (),
    *,
    order: str = "",
) -> list[Table]:
    """One table for each set of cells that can be compared.

    Args:
        rows: The rows of one environment.
        suite: The suite.
        metric: The metric.
        wrong: Labels that are not ranked.
        order: The metric by which rivals are ranked, where it was measured; else ``metric``.
    """
    groups: dict[str, list[Row]] = {}
    values: dict[str, dict[int, float]] = {"noise_floor": {}, order: {}}
    for row in rows:
        if row.axes["suite"] != suite or row.axes["seq_len"] is None:
            continue
        if row.metric in values and row.value is not None:
            values[row.metric][row.cell] = row.value
        if row.metric in (metric, CELL_METRIC):
            groups.setdefault(repr([row.axes[axis] for axis in FIXED]), []).append(row)
    return [
        _table(part, metric, wrong, values["noise_floor"], values[order])
        for group in groups.values()
        for part in _comparable(group)
        if any(row.metric == metric and row.value is not None for row in part)
    ]


def leaders(table: Table, length: int | None = None) -> Leaders | None:
    """Who leads at a length, by default the largest; None where nothing ranked was measured."""
    length = table.lengths[-1] if length is None else length
    at_end = [
        (rival, e, value)
        for rival, n, e, value in table.measured()
        if n == length and rival not in table.controls
    ]
    if not at_end:
        return None
    first, best, least = min(at_end, key=lambda item: item[2])
    reach = (least if best.high is None else best.high) * (best.floor or 1.0)
    tied = {
        rival
        for rival, entry, value in at_end
        if rival != first and (value if entry.low is None else entry.low) <= reach
    }
    return Leaders(length, first, best, tuple(rival for rival in table.rivals if rival in tied))


def _comparable(group: Sequence[Row]) -> Iterator[list[Row]]:
    """Split by the baseline, and by the number of keys where one N has several."""
    baselines = {_baseline(row): None for row in group if _baseline(row)} or {"": None}
    for baseline in baselines:
        # A cell without a ratio names no baseline: it is missing from the race of every one.
        part = [row for row in group if _baseline(row) in ("", baseline)]
        keys: dict[int, set[int]] = {}
        for row in part:
            keys.setdefault(row.axes["seq_len"], set()).add(row.axes["k_len"])
        if max(len(found) for found in keys.values()) == 1:
            yield part
            continue
        for size in sorted(set().union(*keys.values())):
            yield [row for row in part if row.axes["k_len"] == size]


def _table(
    rows: Sequence[Row],
    metric: str,
    wrong: Collection[str],
    floors: Mapping[int, float],
    ranks: Mapping[int, float],
) -> Table:
    right = [row for row in rows if row.label not in wrong]
    supported = {row.rival for row in right if row.status != "unsupported"}
    shown = [row for row in right if row.rival in supported]
    ranked = [row for row in shown if not row.control]
    controls = _ranking([row for row in shown if row.control], ranks)
    return Table(
        rows[0].axes["suite"],
        metric,
        next(row.unit for row in rows if row.metric == metric),
        _fixed(rows),
        tuple(sorted({row.axes["seq_len"] for row in rows})),
        (*_ranking(ranked, ranks), *controls),
        {(row.rival, row.axes["seq_len"]): _entry(row, floors.get(row.cell)) for row in shown},
        tuple(dict.fromkeys(row.rival for row in rows if row.label in wrong)),
        tuple(dict.fromkeys(row.rival for row in right if row.rival not in supported)),
        tuple(controls),
    )


def _fixed(rows: Sequence[Row]) -> dict[str, Any]:
    fixed = {axis: v for axis in FIXED if (v := rows[0].axes[axis]) not in (None, "{}")}
    if keys := _keys(rows):
        fixed["keys"] = keys
    if baseline := next(filter(None, map(_baseline, rows)), ""):
        fixed["baseline"] = baseline
    return fixed


def _keys(rows: Iterable[Row]) -> str:
    """How many queries and keys there are, where that is not N of both."""
    sizes = {tuple(row.axes[axis] for axis in ("seq_len", "q_len", "k_len")) for row in rows}
    if any(None in size for size in sizes):
        return ""
    if all(queries == 1 for _, queries, _ in sizes):
        return "1 query to N keys"
    if all(queries == keys for _, queries, keys in sizes):
        return ""
    return ", ".join(f"{keys} keys at N = {n}" for n, _, keys in sorted(sizes))


def _ranking(rows: Iterable[Row], ranks: Mapping[int, float]) -> list[str]:
    """The least at the largest length first; who has none there comes later, or last."""
    rows = list(rows)
    any_rank = any(row.cell in ranks for row in rows)
    last: dict[str, tuple[int, float]] = {}
    for row in rows:
        value = ranks.get(row.cell) if any_rank else row.value
        at = (-row.axes["seq_len"], value)
        if value is not None and (row.rival not in last or at[0] < last[row.rival][0]):
            last[row.rival] = (at[0], value)
    rest = (row.rival for row in rows if row.rival not in last)
    return [*sorted(last, key=lambda rival: last[rival]), *dict.fromkeys(rest)]


def _entry(row: Row, floor: float | None) -> Entry:
    said = ""
    if baseline := _baseline(row):
        is_it = baseline == row.label
        said = "baseline" if is_it else difference(row.low, row.high, floor)
    return Entry(row.value, row.low, row.high, row.n, row.status, row.reason, said, floor)


def _baseline(row: Row) -> str:
    """What a ratio is to."""
    is_ratio = row.metric == "ratio" and row.reason.startswith(_TO)
    return row.reason.removeprefix(_TO) if is_ratio else ""
