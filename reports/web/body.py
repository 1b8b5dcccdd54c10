"""The body of the page: nested sections, one for each heading, and the charts that they hold."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from bakeoff.reports.blocks import Block, Cards, Chart, Figure, Grid, Heading, Items, Maps, Text
from bakeoff.reports.charts import chart
from bakeoff.reports.web.card import card_markup
from bakeoff.reports.web.markup import Names, gallery, marks, spans, table

__all__ = ["Body"]

#: A longer table with a title is folded.
_MOST_ROWS = 16
#: Levels of headings to which the contents link.
_LINKED = (2, 3)


#: Anchors that the page itself has; headings take others.
_TAKEN = ("main", "filters", "contents", "data", "variants", "tip")


class Body:
    """Turns blocks into HTML, and keeps what the rest of the page needs of them.

    Attributes:
        charts: The specification of each chart, in the order of their places.
        links: Of the contents.
        cards: The anchor of each card, by its identity.
    """

    def __init__(self) -> None:
        self.charts: list[Mapping[str, Any]] = []
        self.links: list[str] = []
        self.cards: dict[int, str] = {}
        self._names = Names(_TAKEN)
        self._anchors: dict[str, str] = {}
        self._open: list[int] = []
        self._heading = ""
        self._said = ""

    def parts(self, blocks: list[Block]) -> Iterator[str]:
        """The HTML of the blocks, which hold no others."""
        for block in blocks:
            if isinstance(block, Cards):
                for card in block.cards:
                    anchor = self._names.new(f"variant-{card.variant}")
                    self.cards[id(card)] = anchor
                    self._anchors.setdefault(card.variant, anchor)
        pictured = False
        for block in blocks:
            yield from self._part(block, pictured)
            pictured = isinstance(block, Chart | Figure)
        yield from self._close(1)

    def _part(self, block: Block, pictured: bool) -> Iterator[str]:
        match block:
            case Heading():
                yield from self._section(block)
            case Text(pieces):
                self._said = "".join(pieces)
                yield f"<p>{spans(pieces)}</p>"
            case Items(items):
                yield "<ul>" + "".join(f"<li>{spans(item)}</li>" for item in items) + "</ul>"
            case Chart(shown):
                yield self._figure(chart(shown), "", {})
            case Figure(spec, caption, facets):
                yield self._figure(spec, caption, facets)
            case Grid():
                yield self._grid(block, pictured)
            case Maps(heading, text, pictures):
                yield from self._section(heading)
                yield f"<p>{spans(text.pieces)}</p>{gallery(pictures)}"
            case Cards(cards):
                yield "".join(card_markup(card, self.cards[id(card)]) for card in cards)

    def _section(self, heading: Heading) -> Iterator[str]:
        yield from self._close(heading.level)
        anchor, text = self._names.new(heading.text), html.escape(heading.text)
        self._open.append(heading.level)
        self._heading = heading.text
        if heading.level in _LINKED:
            self.links.append(f'<a class="h{heading.level}" href="#{anchor}">{text}</a>')
        level = heading.level
        yield f'<section id="{anchor}"{marks(heading.facets)}><h{level}>{text}</h{level}>'

    def _close(self, level: int) -> Iterator[str]:
        while self._open and self._open[-1] >= level:
            self._open.pop()
            yield "</section>"

    def _figure(self, spec: Mapping[str, Any], caption: str, facets: Mapping[str, str]) -> str:
        anchor = self._names.new(f"chart{len(self.charts)}")
        # What a screen reader says of the picture; its numbers stand in a table.
        self.charts.append({"description": caption or self._said, **spec})
        told = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        return (
            f'<figure class="picture"{marks(facets)}>'
            f'<div class="chart" id="{anchor}"></div>{told}</figure>'
        )

    def _grid(self, grid: Grid, pictured: bool) -> str:
        caption = f"{self._heading}: {grid.title}" if grid.title else self._heading
        made = table(grid, self._names.new("t1"), caption, self._anchors)
        if not (grid.title and (pictured or len(grid.rows) > _MOST_ROWS)):
            return made
        return f"<details><summary>{html.escape(grid.title)}</summary>{made}</details>"
