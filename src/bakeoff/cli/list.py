"""``bakeoff list``: which variants there are."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from bakeoff.cli.options import listed, plugin_option, show_problems
from bakeoff.registry.metadata import SECTIONS

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog
    from bakeoff.registry.variants import Variant

__all__ = ["variants"]

WIDTH = 80
_FORWARDS, _GAP = 24, "  "


@click.command()
@listed("--kind", "kinds", "activation, attention, connection")
@listed("--tag", "tags", "tags that a variant must have, all of them")
@click.option("--json", "as_json", is_flag=True, help="as JSON, for other programs")
@plugin_option
def variants(
    kinds: tuple[str, ...], tags: tuple[str, ...], as_json: bool, plugins: tuple[str, ...]
) -> None:
    """List the variants: name, title and forwards, by the sections of the textbook."""
    from bakeoff import load

    catalog = load(plugins)
    show_problems(catalog.problems)
    chosen = catalog.select(kind=kinds or None, tags=tags)
    if as_json:
        click.echo(json.dumps([_entry(catalog, variant) for variant in chosen], indent=1))
        return
    if not chosen:
        click.echo("No variant has these kinds and tags.")
        return
    click.echo("\n".join(_listing(chosen)).strip())


def _listing(chosen: tuple[Variant, ...]) -> Iterator[str]:
    """The variants under headings: their kinds, and the textbook's sections in its order."""
    widest = max(len(variant.name) for variant in chosen)
    kinds = dict.fromkeys(variant.kind for variant in chosen)
    for kind in kinds:
        if len(kinds) > 1:
            yield from ("", kind.capitalize(), "=" * len(kind))
        for section, variants in _by_section(kind, chosen).items():
            if section:
                yield from ("", section.capitalize(), "-" * len(section))
            for variant in variants:
                yield from _lines(variant, widest)


def _by_section(kind: str, chosen: Iterable[Variant]) -> dict[str, list[Variant]]:
    """Those without a section come last, as others; a kind without sections has no heading."""
    found: dict[str, list[Variant]] = {section: [] for section in SECTIONS[kind]}
    for variant in chosen:
        if variant.kind == kind:
            other = "other" if SECTIONS[kind] else ""
            found.setdefault(variant.metadata.section or other, []).append(variant)
    return {section: variants for section, variants in found.items() if variants}


def _lines(variant: Variant, widest: int) -> Iterator[str]:
    """Name, title and forwards, the latter two broken within their columns."""
    room = WIDTH - widest - 2 * len(_GAP)
    mark = " (control)" if variant.metadata.control else ""
    title = textwrap.wrap(variant.metadata.title + mark, room - _FORWARDS)
    forwards = textwrap.wrap(", ".join(variant.forwards), _FORWARDS)
    for name, left, right in zip_longest([variant.name], title, forwards, fillvalue=""):
        yield f"{name:<{widest}}{_GAP}{left:<{room - _FORWARDS}}{_GAP}{right}".rstrip()


def _entry(catalog: Catalog, variant: Variant) -> dict[str, Any]:
    metadata = variant.metadata
    return {
        "name": variant.name,
        "kind": variant.kind,
        "title": metadata.title,
        "summary": metadata.summary,
        "formula": metadata.formula,
        "aliases": list(metadata.aliases),
        "section": metadata.section or None,
        "tags": list(metadata.tags),
        "control": metadata.control,
        "forwards": list(variant.forwards),
        "options": dict(variant.options),
        "properties": dict(metadata.properties),
        "approximates": variant.approximates,
        "paper": metadata.paper.url if metadata.paper else None,
        "origin": catalog.origins.get(variant.name),
    }
