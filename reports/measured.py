"""Tables of measurements as blocks: a row a rival, a column a length, each with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bakeoff.reports.blocks import Block, Chart, Code, Grid, Heading, Text, Told, names_of
from bakeoff.reports.tables import Entry, Table
from bakeoff.reports.units import human, interval, number, spread
from bakeoff.reports.words import describe, facets, varying

__all__ = ["caption", "measured", "tip", "value_of"]

METRICS = {
    "ratio": "Ratio",
    "time": "Time",
    "peak_bytes": "Peak memory of a call",
    "saved_bytes": "Memory kept for the backward",
    "roofline_fraction": "Share of what the machine can do at the most (its roofline)",
    "compile_time": "Time to compile",
    "graph_breaks": "Graph breaks when compiling",
}
_MARKS = {"no difference": "= ", "undecided": "? "}


def measured(title: str, tables: Sequence[Table], wide: bool) -> Iterator[Block]:
    """Every table under the heading of its case, with its chart and who is not ranked."""
    axes = [axis for axis in varying(table.fixed for table in tables) if axis != "baseline"]
    case = None
    for table in tables:
        # The metrics of one case share a heading and the words on what is held fixed.
        key = {name: value for name, value in table.fixed.items() if name != "baseline"}
        if key != case:
            case = key
            told = describe(table.fixed, axes)
            name = f"{title}: {told}" if told else title
            yield Heading(3, name, facets(table.fixed))
            yield Text(("Held fixed: " + describe(key) + ".",))
        yield Text(tuple(caption(table)))
        if table.metric != "time":  # what a ratio shows better
            yield Chart(table)
        yield Grid(
            ("N", *(str(length) for length in table.lengths)),
            tuple(
                (Code(rival), *(cell(table, rival, n, wide=wide) for n in table.lengths))
                for rival in table.rivals
            ),
            f"Table: {table.metric.replace('_', ' ')}",
            controls=table.controls,
        )
        yield from _not_ranked(table)


def caption(table: Table) -> Iterator[str]:
    """What the numbers of a table are."""
    name = METRICS.get(table.metric, f"{table.suite}: {table.metric.replace('_', ' ')}")
    if not table.baseline:
        yield f"{name}, against the length N."
        return
    yield f"{name} of the times to "
    yield Code(table.baseline)
    yield ", below 1 is faster, against the length N."
    floors = floors_of(table)
    if floors:
        told = ", ".join(f"{number(floor)} at N = {n}" for n, floor in floors.items())
        yield f" Noise floor: {told}."


def floors_of(table: Table) -> dict[int, float]:
    """The noise floor at each length: the widest, where rivals ran in several races."""
    floors: dict[int, float] = {}
    for _, n, entry, _ in table.measured():
        if entry.floor:
            floors[n] = max(floors.get(n, 1.0), entry.floor)
    return dict(sorted(floors.items()))


def _not_ranked(table: Table) -> Iterator[Block]:
    reasons = {
        "wrong": table.unranked,
        "unsupported here": table.unsupported,
        "controls, shown to compare with": table.controls,
    }
    for why, rivals in reasons.items():
        if rivals:
            yield Text((f"Not ranked, {why}: ", *names_of(rivals), "."))


def cell(table: Table, rival: str, length: int, *, wide: bool) -> str:
    """One entry: a value with its interval, or why there is none."""
    entry = table.entries.get((rival, length))
    if entry is None:
        return "-"
    return Told(value_of(entry, table, wide=wide), value=entry.value, tip=tip(entry, table.unit))


def tip(entry: Entry, unit: str) -> str:
    """All that is known of an entry: value, interval, samples and remark, or why there is none."""
    if entry.value is None:
        return f"{entry.status}: {entry.reason}" if entry.reason else entry.status
    told = human(entry.value, unit)
    if entry.low is not None and entry.high is not None:
        told += f" (95% interval {interval(entry.low, entry.high, unit)})"
    if entry.n is not None:
        told += f", n = {entry.n}"
    return f"{told}, {entry.difference}" if entry.difference else told


def value_of(entry: Entry, table: Table, *, wide: bool) -> str:
    """A value with its interval and what it says about the baseline, or a status."""
    if entry.value is None:
        return entry.status
    if entry.difference == "baseline":
        return "1"
    told = _MARKS.get(entry.difference, "") + human(entry.value, table.unit)
    if entry.low is None or entry.high is None:
        return told
    if wide:
        return f"{told} [{interval(entry.low, entry.high, table.unit)}]"
    return f"{told} {spread(entry.value, entry.low, entry.high)}"
