"""Markup of the blocks that every report has; whatever comes from plugins is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from itertools import groupby

from bakeoff.reports.blocks import Code, Grid, Told
from bakeoff.reports.maps import Picture, figure

__all__ = ["Names", "gallery", "marks", "spans", "table"]

#: Words that get a colour of their own.
_STATUSES = ("right", "ok", "wrong", "failed", "crashed", "timeout", "oom", "undetermined",
             "unverified", "unsupported")  # fmt: skip
#: Longer tables scroll within a box of their own.
_MOST_ROWS = 32


class Names:
    """Anchors: one for each heading, made of its words and so the same in every report.

    Example:
        >>> names = Names(["main"])
        >>> names.new("Is it right?"), names.new("Is it right?"), names.new("<b>")
        ('is-it-right', 'is-it-right-2', 'b')
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def new(self, text: str) -> str:
        """An anchor that nothing else has."""
        base = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:60] or "part"
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}-{count}"
        self._taken.add(name)
        return name


def spans(pieces: Iterable[str]) -> str:
    """Pieces of a text; code in its own type."""
    return "".join(
        f"<code>{html.escape(piece)}</code>" if isinstance(piece, Code) else html.escape(piece)
        for piece in pieces
    )


def marks(facets: Mapping[str, str]) -> str:
    """Facets as attributes, by which the page's script hides what is not asked for."""
    return "".join(f' data-{name}="{html.escape(value)}"' for name, value in facets.items())


def table(grid: Grid, anchor: str, caption: str, cards: Mapping[str, str]) -> str:
    """A table in a box that scrolls; names of variants lead to their cards.

    Args:
        grid: The table.
        anchor: Its own, by which a link remembers how it is sorted.
        caption: What it shows, for those who can't see what stands above it.
        cards: The anchor of each variant's card.
    """
    head = "".join(
        f'<th scope="col"{marks(grid.facets.get(name, {}))}>'
        f"{_upright(name, grid.narrow and i > 0)}</th>"
        for i, name in enumerate(grid.headers)
    )
    of_rows = grid.row_facets or ({},) * len(grid.rows)
    rows = "".join(
        _row(row, marks(own) + " data-control" * (row[0] in grid.controls), cards)
        for row, own in zip(grid.rows, of_rows, strict=True)
    )
    classes = " long" if len(grid.rows) > _MOST_ROWS else ""
    classes += " signs" if grid.narrow else ""
    told = html.escape(caption)
    return (
        f'<div class="scroll{classes}" tabindex="0" role="region" aria-label="{told}">'
        f'<table id="{anchor}"><caption>{told}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def gallery(pictures: Iterable[Picture]) -> str:
    """The maps of every variant, side by side."""
    figures = (figure(name, own) for name, own in groupby(pictures, key=lambda p: p.variant))
    return f'<div class="maps">{"".join(figures)}</div>'


def _upright(name: str, upright: bool) -> str:
    text = html.escape(name)
    return f"<span>{text}</span>" if upright else text


def _row(row: tuple[str, ...], mark: str, cards: Mapping[str, str]) -> str:
    first, name = row[0], spans(row[:1])
    if isinstance(first, Code):
        variant = first.partition(":")[0]
        mark += f' data-variant="{html.escape(variant)}"'
        if variant in cards:
            name = f'<a href="#{cards[variant]}">{name}</a>'
    return f'<tr{mark}><th scope="row">{name}</th>{"".join(map(_cell, row[1:]))}</tr>'


def _cell(text: str) -> str:
    attributes, status = "", text if text in _STATUSES else ""
    if isinstance(text, Told):
        status = text.status or status
        if text.value is not None:
            attributes += f' data-value="{text.value:.6g}"'
        if text.tip and text.tip != text:
            attributes += f' title="{html.escape(text.tip)}"'
    if status:
        attributes += f' class="{html.escape(status)}"'
    return f"<td{attributes}>{spans((text,))}</td>"
