"""What a report says first: what is wrong, and who leads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bakeoff.reports.blocks import Block, Code, Items, names_of
from bakeoff.reports.contents import Kind
from bakeoff.reports.measured import value_of
from bakeoff.reports.tables import Leaders, Table, leaders
from bakeoff.reports.words import describe, varying

__all__ = ["overview"]


def overview(kind: Kind, *, ranked: bool) -> Iterator[Block]:
    """One item for each wrong forward, and for each case who leads it, where that is ``ranked``."""
    items: list[tuple[str, ...]] = [
        ("Wrong, and not ranked: ", Code(label), ": ", Code(reason))
        for label, reason in kind.wrong.items()
    ]
    for what, metric, tables in (
        ("Fastest", "ratio", kind.speed if ranked else []),
        ("Least peak memory", "peak_bytes", kind.memory),
    ):
        for case, table, found in _led(tables, metric):
            told = (what, case, f"N = {found.length}")
            items.append((", ".join(filter(None, told)) + ": ", *_leading(table, found)))
    if items:
        yield Items(tuple(items))


def _led(tables: Iterable[Table], metric: str) -> Iterator[tuple[str, Table, Leaders]]:
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
        yield f" {value_of(found.entry, table, wide=False).strip('=? ')}"
    yield from _tied(found.tied)


def _tied(rivals: Sequence[str], most: int = 3) -> Iterator[str]:
    """Names a few of those that stand beside the first."""
    if rivals:
        yield "; no measurable difference to "
        yield from names_of(rivals[:most])
        if len(rivals) > most:
            yield f" and {len(rivals) - most} more"
