"""A report as headings, paragraphs, lists and grids, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bakeoff.reports.contents import Contents, Kind, Place
from bakeoff.reports.failures import failures_of, refusals_of
from bakeoff.reports.maps import Picture
from bakeoff.reports.tables import Entry, Leaders, Table, leaders
from bakeoff.reports.units import human, interval, number, spread
from bakeoff.reports.verdicts import Verdict
from bakeoff.reports.words import describe, plural, varying

__all__ = ["Block", "Chart", "Code", "Grid", "Heading", "Items", "Maps", "Text", "document"]

METRICS = {
    "ratio": "Ratio",
    "time": "Time",
    "peak_bytes": "Peak memory of a call",
    "saved_bytes": "Memory kept for the backward",
}
#: The worst first, since that is what a reader must not miss.
VERDICTS = ("wrong", "failed", "not measured", "unverified", "right")
_SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
_MARKS = {"no difference": "= ", "undecided": "? "}
_LEGEND = (
    "± is the wider side of the 95% interval{}. A ratio marked = is no difference to the baseline: "
    "its interval lies within the noise floor of the race, which is how far apart two equals came "
    "out. One marked ? is undecided."
)


class Code(str):
    """A text that comes from plugins or results: shown as it stands, never as markup."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph, from pieces."""

    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """A list; each item from pieces."""

    items: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A table: its first column names the rows. One with a title may be folded away."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A table as a picture, where pictures can be shown; its Grid follows."""

    table: Table


@dataclass(frozen=True)
class Maps:
    """Who attends to whom under a heading, where pictures can be shown; else left out."""

    heading: Heading
    text: Text
    pictures: tuple[Picture, ...]


Block = Heading | Text | Items | Grid | Chart | Maps


def document(contents: Contents, *, wide: bool) -> Iterator[Block]:
    """The blocks of a report.

    Args:
        contents: What it says.
        wide: Whether there is room for both ends of an interval.
    """
    yield Heading(1, "bakeoff report")
    source = (f"{plural(contents.records, 'record')} from ", Code(contents.source), ".")
    yield Text(source)
    if len(contents.places) > 1:
        yield Text(
            (
                f"Measured in {len(contents.places)} environments, which are never mixed: "
                "each has its own part.",
            )
        )
    for i, place in enumerate(contents.places, start=1):
        if len(contents.places) > 1:
            yield Heading(2, f"Environment {i} of {len(contents.places)}")
        yield from _place(place, wide)


def environment_of(place: Place) -> list[tuple[str, str]]:
    """The environment, by name and value, and when it was measured."""
    shown = {
        "CPU": "cpu",
        "cores": "cores",
        "memory (GiB)": "memory_gib",
        "device": "device",
        "torch": "torch",
        "Python": "python",
        "system": "system",
        "bakeoff": "bakeoff",
        "malloc": "malloc",
        "preload": "preload",
    }
    found = [(name, place.description.get(key)) for name, key in shown.items()]
    pairs = [(name, str(value)) for name, value in found if value not in (None, "", {})]
    return [*pairs, ("measured", when(place))]


def when(place: Place) -> str:
    """The first and the last minute of the measuring."""
    began, ended = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M")
        for t in (place.began, place.ended)
    )
    if began == ended:
        return f"{began} UTC"
    return f"{began} to {ended[11:] if began[:10] == ended[:10] else ended} UTC"


def _place(place: Place, wide: bool) -> Iterator[Block]:
    pairs = environment_of(place)
    yield Text(tuple(piece for n, v in pairs for piece in (f"{n} ", Code(v), "; "))[:-1])
    if any(kind.speed for kind in place.kinds):
        yield Text((_LEGEND.format("; brackets hold both its ends" if wide else ""),))
    yield Heading(2, "Overview")
    for kind in place.kinds:
        yield Heading(3, f"{kind.name.capitalize()}: {counts(kind.verdicts)}")
        yield from _overview(kind)
    for kind in place.kinds:
        yield Heading(2, kind.name.capitalize())
        yield from _verdicts(kind.verdicts, kind)
        yield from _maps(kind)
        yield from _measured("Speed", kind.speed, wide)
        yield from _measured("Memory", kind.memory, wide)
        yield from _measured("Further measurements", kind.others, wide)
        yield from _failures(kind)


def _overview(kind: Kind) -> Iterator[Block]:
    items: list[tuple[str, ...]] = [
        ("Wrong, and not ranked: ", Code(label), ": ", Code(reason))
        for label, reason in kind.wrong.items()
    ]
    for what, metric, tables in (
        ("Fastest", "ratio", kind.speed),
        ("Least peak memory", "peak_bytes", kind.memory),
    ):
        for case, table, found in led(tables, metric):
            told = (what, case, f"N = {found.length}")
            items.append((", ".join(filter(None, told)) + ": ", *_leading(table, found)))
    if items:
        yield Items(tuple(items))


def led(tables: Iterable[Table], metric: str) -> Iterator[tuple[str, Table, Leaders]]:
    """The tables of a metric with who leads in each, and the case in which they differ."""
    tables = [table for table in tables if table.metric == metric]
    axes = varying(table.fixed for table in tables)
    for table in tables:
        found = leaders(table)
        if found:
            yield describe(table.fixed, axes), table, found


def _leading(table: Table, found: Leaders) -> Iterator[str]:
    yield Code(found.first)
    if found.entry.difference == "baseline":
        yield ", the baseline"
    else:
        yield f" {_value(found.entry, table, wide=False).strip('=? ')}"
    yield from _tied(found.tied)


def _tied(rivals: Sequence[str], most: int = 3) -> Iterator[str]:
    """Names a few of those that stand beside the first."""
    if rivals:
        yield "; no measurable difference to "
        yield from _listed(rivals[:most])
        if len(rivals) > most:
            yield f" and {len(rivals) - most} more"


def counts(verdicts: Iterable[Verdict]) -> str:
    """How many forwards have which verdict."""
    found = [verdict.verdict for verdict in verdicts]
    told = [f"{found.count(name)} {name}" for name in reversed(VERDICTS) if name in found]
    return ", ".join(told) if told else "correctness not measured"


def ordered(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The worst first."""
    return sorted(verdicts, key=lambda verdict: VERDICTS.index(verdict.verdict))


def _verdicts(verdicts: Sequence[Verdict], kind: Kind) -> Iterator[Block]:
    if not verdicts:
        return
    dtypes = list(dict.fromkeys(dtype for v in verdicts for dtype in v.errors))
    yield Heading(3, "Is it right?")
    yield Text(
        (
            "Errors are the worst ratio of the error to what the dtype allows, over all cells: "
            "at most 2 passes. Grad is the same for gradients, over all dtypes. Failed counts "
            "probes, declared properties and identities. Unverified: there is no independent "
            "definition to compare with.",
        )
    )
    headers = ("forward", "verdict", *(f"error\n{_SHORT.get(d, d)}" for d in dtypes))
    yield Grid(
        (*headers, "grad\nerror", "grad\ncheck", "checks\nfailed"),
        tuple(
            (
                Code(v.label),
                v.verdict,
                *(number(v.errors[d]) if d in v.errors else "-" for d in dtypes),
                number(max(v.gradients.values())) if v.gradients else "-",
                v.gradcheck or "-",
                _failed_checks(kind, v.label),
            )
            for v in ordered(verdicts)
        ),
    )


def _failed_checks(kind: Kind, label: str) -> str:
    found = [checks.count(label) for checks in kind.checks.values()]
    made = sum(count.made for count in found)
    return f"{sum(count.failed for count in found)}/{made}" if made else "-"


def _maps(kind: Kind) -> Iterator[Block]:
    if kind.pictures:
        told = (
            "One example with random tensors, not training: queries down, keys across. The deeper, "
            "the farther the output of a query moves with the value of a key, as a share of the "
            "most in its row; blank is no influence at all. An option that would not show at this "
            "length is smaller, as told.",
        )
        yield Maps(Heading(3, "Who attends to whom"), Text(told), tuple(kind.pictures))


def _measured(title: str, tables: Sequence[Table], wide: bool) -> Iterator[Block]:
    axes = [axis for axis in varying(table.fixed for table in tables) if axis != "baseline"]
    case = None
    for table in tables:
        # The metrics of one case share a heading and the words on what is held fixed.
        key = {name: value for name, value in table.fixed.items() if name != "baseline"}
        if key != case:
            case = key
            told = describe(table.fixed, axes)
            yield Heading(3, f"{title}: {told}" if told else title)
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
        )
        yield from _left_out(table)


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


def _left_out(table: Table) -> Iterator[Block]:
    for why, rivals in (("wrong", table.unranked), ("unsupported here", table.unsupported)):
        if rivals:
            yield Text((f"Not ranked, {why}: ", *_listed(rivals), "."))


def cell(table: Table, rival: str, length: int, *, wide: bool) -> str:
    """One entry: a value with its interval, or why there is none."""
    entry = table.entries.get((rival, length))
    if entry is None:
        return "-"
    return entry.status if entry.value is None else _value(entry, table, wide=wide)


def _value(entry: Entry, table: Table, *, wide: bool) -> str:
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


def _failures(kind: Kind) -> Iterator[Block]:
    if kind.failures:
        yield Heading(3, f"Failures ({plural(len(kind.failures), 'row')})")
        yield Items(
            tuple(
                (
                    Code(failure.label),
                    f" {failure.status}: {failure.what}, {failure.where}",
                    f", in {failure.cells} cells" if failure.cells > 1 else "",
                    ": ",
                    Code(failure.reason),
                )
                for failure in failures_of(kind.failures)
            )
        )
    if kind.unsupported:
        yield Heading(3, f"Unsupported ({plural(len(kind.unsupported), 'row')})")
        yield Items(
            tuple(
                (
                    Code(refusal.reason),
                    f", {plural(refusal.cells, 'row')}: ",
                    *_listed(refusal.labels),
                )
                for refusal in refusals_of(kind.unsupported)
            )
        )


def _listed(names: Sequence[str]) -> Iterator[str]:
    """Names with commas between them."""
    for i, name in enumerate(names):
        if i:
            yield ", "
        yield Code(name)
