"""The form that chooses what the page shows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from bakeoff.reports.blocks import Block, Cards, Figure, Grid, Heading
from bakeoff.reports.words import FACETS

__all__ = ["filters"]


def filters(blocks: Iterable[Block]) -> str:
    """A field for a name, and a menu for each facet that has several values."""
    values: dict[str, dict[str, None]] = {name: {} for name in ("kind", "tag", *FACETS[1:])}
    for facet, value in _found(blocks):
        values[facet][value] = None
    menus = "".join(_menu(name, sorted(found)) for name, found in values.items() if len(found) > 1)
    return (
        '<form id="filters" role="search" aria-label="Choose what is shown">'
        '<label>Name <input type="search" name="name" autocomplete="off" spellcheck="false" '
        f'placeholder="part of a name"></label>{menus}'
        '<button type="reset">Show all</button><output aria-live="polite"></output></form>'
    )


def _found(blocks: Iterable[Block]) -> Iterator[tuple[str, str]]:
    for block in blocks:
        match block:
            case Heading(_, _, facets) | Figure(_, _, facets):
                yield from facets.items()
            case Grid():
                for facets in block.facets.values():
                    yield from facets.items()
            case Cards(cards):
                for card in cards:
                    yield "kind", card.kind
                    for tag in card.about.metadata.tags if card.about else ():
                        yield "tag", tag
                    for axes in {id(row.axes): row.axes for row in card.rows}.values():
                        yield from ((f, str(axes[f])) for f in FACETS if axes[f] is not None)


def _menu(name: str, values: Iterable[str]) -> str:
    options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
    return (
        f'<label>{name.capitalize()} <select name="{name}"><option value="">all</option>'
        f"{options}</select></label>"
    )
