"""Every record of every card, small enough to be mailed: each text stands once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bakeoff.reports.cards import Card
from bakeoff.reports.curves import METRIC as CURVES
from bakeoff.reports.maps import METRIC as MAP
from bakeoff.reports.rows import Row
from bakeoff.reports.units import human, interval
from bakeoff.reports.words import FACETS, describe

__all__ = ["packed"]

#: What a row's place leaves out: it has a column of its own, or is the same for all.
_ELSEWHERE = ("kind", "suite", "suite_version", "variant", "forward", "value_dim", "q_len")
#: Remarks that are pictures.
_PICTURES = (MAP, CURVES)


class _Texts(dict[str, int]):
    """Numbers its texts."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number


def packed(cards: Mapping[str, Card]) -> dict[str, Any]:
    """The records as plain data.

    ``texts`` holds every text once, and all else are numbers of these: ``cells`` is, by the anchor
    of a card, a list of ``[forward, suite, place, facets, records]``, where ``facets`` has one for
    each of :data:`bakeoff.reports.words.FACETS`, and a record is ``[metric, value, interval, n,
    status, reason]`` without what is empty at its end. Text 0 is the empty one.
    """
    texts = _Texts()
    texts[""] = 0
    cells = {anchor: _cells(card.rows, texts) for anchor, card in cards.items()}
    return {"facets": FACETS, "texts": list(texts), "cells": cells}


def _cells(rows: Iterable[Row], texts: _Texts) -> list[list[Any]]:
    by_cell: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        by_cell.setdefault((row.cell, row.environment), []).append(row)
    return [_cell(group, texts) for group in by_cell.values()]


def _cell(rows: list[Row], texts: _Texts) -> list[Any]:
    axes = rows[0].axes
    length = f"N = {axes['seq_len']}" if axes["seq_len"] is not None else ""
    rest = {a: v for a, v in axes.items() if a not in (*_ELSEWHERE, "seq_len") and v != "{}"}
    place = ", ".join(filter(None, (length, describe(rest))))
    told = (str(axes["forward"]), str(axes["suite"]), place)
    facets = [texts["" if axes[name] is None else str(axes[name])] for name in FACETS]
    return [*(texts[text] for text in told), facets, [_record(row, texts) for row in rows]]


def _record(row: Row, texts: _Texts) -> list[int]:
    value = "" if row.value is None else human(row.value, row.unit)
    ends = ""
    if row.low is not None and row.high is not None:
        ends = interval(row.low, row.high, row.unit)
    reason = "" if row.metric in _PICTURES else row.reason
    count = "" if row.n is None else str(row.n)
    status = "" if row.status == "ok" else row.status
    found = [texts[text] for text in (row.metric, value, ends, count, status, reason)]
    while found[-1] == 0:
        found.pop()
    return found
