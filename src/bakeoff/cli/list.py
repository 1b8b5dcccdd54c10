"""``bakeoff list``: which variants there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bakeoff.cli.options import listed, plugin_option, show_problems

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog
    from bakeoff.registry.variants import Variant

__all__ = ["variants"]


@click.command()
@listed("--kind", "kinds", "activation, attention, connection")
@listed("--tag", "tags", "tags that a variant must have, all of them")
@click.option("--json", "as_json", is_flag=True, help="as JSON, for other programs")
@plugin_option
def variants(
    kinds: tuple[str, ...], tags: tuple[str, ...], as_json: bool, plugins: tuple[str, ...]
) -> None:
    """List the variants."""
    from bakeoff import load

    catalog = load(plugins)
    show_problems(catalog.problems)
    chosen = catalog.select(kind=kinds or None, tags=tags)
    if as_json:
        click.echo(json.dumps([_entry(catalog, variant) for variant in chosen], indent=1))
        return
    click.echo(_table(chosen) if chosen else "No variant has these kinds and tags.")


def _table(chosen: tuple[Variant, ...]) -> str:
    from tabulate import tabulate

    rows = [
        (variant.name, variant.kind, ", ".join(variant.forwards), variant.metadata.title)
        for variant in chosen
    ]
    return str(tabulate(rows, ("name", "kind", "forwards", "title"), tablefmt="simple"))


def _entry(catalog: Catalog, variant: Variant) -> dict[str, Any]:
    metadata = variant.metadata
    return {
        "name": variant.name,
        "kind": variant.kind,
        "title": metadata.title,
        "summary": metadata.summary,
        "formula": metadata.formula,
        "aliases": list(metadata.aliases),
        "tags": list(metadata.tags),
        "forwards": list(variant.forwards),
        "options": dict(variant.options),
        "properties": dict(metadata.properties),
        "approximates": variant.approximates,
        "paper": metadata.paper.url if metadata.paper else None,
        "origin": catalog.origins.get(variant.name),
    }
