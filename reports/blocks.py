"""What a report is made of: headings, paragraphs, lists, grids and charts, however they look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.reports.maps import Picture
from bakeoff.reports.tables import Table

__all__ = [
    "Block",
    "Chart",
    "Code",
    "Figure",
    "Grid",
    "Heading",
    "Items",
    "Maps",
    "Text",
    "names_of",
]


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
class Figure:
    """A Vega-Lite chart, where pictures can be shown; the blocks beside it hold its numbers."""

    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Maps:
    """Who attends to whom under a heading, where pictures can be shown; else left out."""

    heading: Heading
    text: Text
    pictures: tuple[Picture, ...]


Block = Heading | Text | Items | Grid | Chart | Figure | Maps


def names_of(names: Sequence[str]) -> Iterator[str]:
    """Names with commas between them."""
    for i, name in enumerate(names):
        if i:
            yield ", "
        yield Code(name)
