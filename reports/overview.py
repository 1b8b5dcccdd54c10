"""What a report says first: what is wrong, who leads at which length, and who is not beaten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bakeoff.reports.blocks import (
    Block,
    Code,
    Figure,
    Grid,
    Items,
    OnPage,
    Text,
    Told,
    names_of,
)
from bakeoff.reports.contents import Kind
from bakeoff.reports.front_chart import front_chart
from bakeoff.reports.fronts import Front, fronts_of, headline
from bakeoff.reports.measured import tip, value_of
from bakeoff.reports.tables import Table, leaders
from bakeoff.reports.words import describe, facets, varying

__all__ = ["overview"]

_FASTEST = (
    "Fastest at each length N, with the ratio of its time to the baseline's (below 1 is faster). "
    "+2: this measurement cannot tell two more from it."
)
_LEAST = "Least peak memory of a call at each length N. +2: two more need as little."
_FRONT = (
    "Not beaten: no other forward is at least as good in time, memory and error together, and "
    "better in one. Errors count by their power of ten: of what is approximated, where "
    "the variant is an approximation, else of rounding."
)


def overview(kind: Kind, *, ranked: bool) -> Iterator[Block]:
    """What is wrong, and for each case who leads, where that is ``ranked``."""
    wrong = tuple(
        ("Wrong, and not ranked: ", Code(label), ": ", Code(reason))
        for label, reason in kind.wrong.items()
    )
    if wrong:
        yield Items(wrong)
    controls = {name: None for t in (*kind.speed, *kind.memory) for name in t.controls}
    if controls:
        yield Text(("Shown to compare with, and not ranked: ", *names_of(tuple(controls)), "."))
    if ranked:
        yield from _board(_FASTEST, [t for t in kind.speed if t.metric == "ratio"])
    yield from _board(_LEAST, [t for t in kind.memory if t.metric == "peak_bytes"])
    if ranked:
        yield from _fronts(fronts_of(kind.speed, kind.memory, kind.errors))


def _board(told: str, tables: Sequence[Table]) -> Iterator[Block]:
    """A row a case, a column a length, in each who leads."""
    if not tables:
        return
    axes = [axis for axis in varying(table.fixed for table in tables) if axis != "baseline"]
    lengths = sorted({n for table in tables for n in table.lengths})
    yield Text((told,))
    yield Grid(
        ("case", *(f"N = {n}" for n in lengths)),
        tuple(
            (describe(table.fixed, axes) or "all", *(_leader(table, n) for n in lengths))
            for table in tables
        ),
        row_facets=tuple(facets(table.fixed) for table in tables),
    )


def _leader(table: Table, length: int) -> str:
    found = leaders(table, length)
    if found is None:
        return "-"
    # The marks of a difference belong beside a baseline that is named.
    value = value_of(found.entry, table, wide=False).strip("=? ")
    told = f"{found.first} {value}" + (f" +{len(found.tied)}" if found.tied else "")
    said = f"{found.first}: {tip(found.entry, table.unit)}"
    if found.tied:
        said += f"; no measurable difference to {', '.join(found.tied)}"
    return Told(told, value=found.entry.value, tip=said)


def _fronts(fronts: Iterable[Front]) -> Iterator[Block]:
    shown = headline(fronts)
    if not shown:
        return
    axes = varying(front.fixed for front in shown)
    yield Text((_FRONT,))
    yield Items(
        tuple(
            (
                ", ".join(filter(None, (describe(front.fixed, axes), f"N = {front.length}"))),
                ": ",
                *names_of([point.rival for point in front.points if point.unbeaten]),
            )
            for front in shown
        )
    )
    yield OnPage(tuple(Figure(front_chart(f), f"Time, memory and error: {describe(f.fixed)}, "
                                              f"N = {f.length}.", dict(f.facets))
                       for f in shown))  # fmt: skip
