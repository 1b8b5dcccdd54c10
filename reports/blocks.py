"""What a report is made of: headings, paragraphs, lists, grids and charts, however they look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bakeoff.reports.cards import Card
from bakeoff.reports.maps import Picture
from bakeoff.reports.tables import Table

__all__ = [
    "Block",
    "Cards",
    "Chart",
    "Code",
    "Figure",
    "Grid",
    "Heading",
    "Items",
    "Maps",
    "OnPage",
    "Text",
    "Told",
    "names_of",
]


class Code(str):
    """A text that comes from plugins or results: shown as it stands, never as markup."""


class Told(str):
    """A cell of a grid that says more where there is room for it.

    Args:
        text: What it says everywhere.
        value: The number by which a column is sorted; None for none.
        tip: What is said on hovering.
        status: How it is coloured, one of the statuses or verdicts.
    """

    value: float | None
    tip: str
    status: str

    def __new__(
        cls, text: str, *, value: float | None = None, tip: str = "", status: str = ""
    ) -> Told:
        told = super().__new__(cls, text)
        told.value, told.tip, told.status = value, tip, status
        return told


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title.

    Args:
        level: From 1 to 4.
        text: What it says.
        facets: What all beneath it has in common, such as ``{"dtype": "float32"}``: where a reader
            asks for another dtype, that part is hidden.
    """

    level: int
    text: str
    facets: Mapping[str, str] = field(default_factory=dict)


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
    """A table: its first column names the rows. One with a title may be folded away.

    Args:
        headers: A name for each column.
        rows: The cells.
        title: What it is called where it is folded.
        narrow: Whether its columns hold signs alone, so that headers may stand upright.
        facets: By header, what all in that column has in common, as for a heading.
        row_facets: Likewise for each row; empty for none.
        controls: The first cells of rows that stay last, however the others are sorted.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    narrow: bool = False
    facets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    row_facets: tuple[Mapping[str, str], ...] = ()
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A table as a picture, where pictures can be shown; its Grid follows."""

    table: Table


@dataclass(frozen=True)
class Figure:
    """A Vega-Lite chart, where pictures can be shown; the blocks beside it hold its numbers.

    Args:
        spec: The chart.
        caption: One sentence beneath it.
        facets: As for a heading.
    """

    spec: Mapping[str, Any]
    caption: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Maps:
    """Who attends to whom under a heading, where pictures can be shown; else left out."""

    heading: Heading
    text: Text
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Cards:
    """One card for each variant, where they can be unfolded; else left out."""

    cards: tuple[Card, ...]


@dataclass(frozen=True)
class OnPage:
    """Blocks that need the room of a page; else left out."""

    blocks: tuple[Block, ...]


Block = Heading | Text | Items | Grid | Chart | Figure | Maps | Cards | OnPage


def names_of(names: Sequence[str]) -> Iterator[str]:
    """Names with commas between them."""
    for i, name in enumerate(names):
        if i:
            yield ", "
        yield Code(name)
