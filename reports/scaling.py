"""How costs grow with the length: one table a case, a row a rival, a column a statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.rows import FIXED, Row, plain
from bakeoff.reports.units import number, spread

__all__ = ["Scaling", "scaling_of"]

#: The metrics of the suite that have a column, with how the column is called.
COLUMNS = {
    "flops_exponent": "FLOPs",
    "bytes_exponent": "bytes,\ntraining",
    "time_exponent": "time,\n{}",
    "crossover_length": "faster from,\n{}",
}
#: Costs are counted once, whatever the direction, the mode and the threads of the races.
_COUNTED_ONCE = ("direction", "mode", "threads")


@dataclass(frozen=True)
class Scaling:
    """The growth of every rival's costs on one case.

    Args:
        fixed: The axes that are the same for all.
        columns: Headers.
        rows: By rival, one text a column; the controls last, which overtake nobody.
        found: The record of each rival and column, where there is one.
        unranked: Rivals left out because they are wrong.
        controls: Rivals that are shown and not ranked.
    """

    fixed: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    found: Mapping[tuple[str, str], Row]
    unranked: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()


def scaling_of(rows: Iterable[Row], wrong: Collection[str] = ()) -> list[Scaling]:
    """One for each case; what was raced in several modes or threads has one for each."""
    rows = [row for row in rows if row.axes["suite"] == "scaling" and row.metric in COLUMNS]
    counts = [row for row in rows if _check(row) == "counts"]
    times = [row for row in rows if _check(row) == "times"]
    cases: dict[str, list[Row]] = {}
    for row in times or counts:
        cases.setdefault(_case(row, ("mode", "threads") if times else ()), []).append(row)
    return [
        _table(group + [c for c in counts if times and _case(c) == _case(group[0])], wrong)
        for group in cases.values()
    ]


def _check(row: Row) -> str:
    return str(plain(row.axes["extra"]).get("check"))


def _case(row: Row, also: Iterable[str] = ()) -> str:
    axes = [axis for axis in FIXED if axis not in (*_COUNTED_ONCE, "extra", "suite_version")]
    return repr([row.axes[axis] for axis in (*axes, *also)])


def _table(rows: list[Row], wrong: Collection[str]) -> Scaling:
    right = [row for row in rows if row.label not in wrong]
    found = {(row.rival, _column(row)): row for row in right}
    texts = {key: _text(row) for key, row in found.items()}
    columns = [
        header.format(direction)
        for header in COLUMNS.values()
        for direction in ("forward", "backward", "training")
    ]
    present = [c for c in dict.fromkeys(columns) if any(column == c for _, column in found)]
    first = rows[0].axes
    hidden = ("direction", "extra", "suite", "suite_version", "seed", "inputs")
    fixed = {axis: first[axis] for axis in FIXED if axis not in hidden}
    return Scaling(
        {axis: value for axis, value in fixed.items() if value not in (None, "{}")},
        tuple(present),
        {
            rival: tuple(texts.get((rival, column), "-") for column in present)
            for _, rival in sorted({(row.control, rival) for (rival, _), row in found.items()})
        },
        found,
        tuple(dict.fromkeys(row.rival for row in rows if row.label in wrong)),
        tuple(dict.fromkeys(row.rival for row in right if row.control)),
    )


def _column(row: Row) -> str:
    return COLUMNS[row.metric].format(row.axes["direction"])


def _text(row: Row) -> str:
    """A value as far as there is one, else what the record says instead."""
    if row.status != "ok":
        return row.status
    if row.metric == "crossover_length" and row.control:
        return "control"
    if row.metric == "crossover_length":
        if row.value is None:
            return row.reason.rpartition(": ")[2].replace("none up to", "none to")
        ends = (row.value if end is None else end for end in (row.low, row.high))
        return f"{number(row.value)} {spread(row.value, *ends)}"
    if row.value is None:
        return row.reason.partition(":")[0] if row.reason.startswith("undetermined") else "-"
    if row.low is not None and row.high is not None:
        return f"{row.value:.2f} ± {max(row.high - row.value, row.value - row.low):.2f}"
    declared = row.reason.removeprefix("declared ").partition(",")[0]
    return f"{row.value:.1f}" + (f" ({declared})" if row.reason.startswith("declared") else "")
