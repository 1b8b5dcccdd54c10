"""``bakeoff show``: one variant's card."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import plugin_option, show_problems
from bakeoff.registry.metadata import CONTROL
from bakeoff.wording import forward_told, identity_told, said, shapes, tensors

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog
    from bakeoff.registry.variants import Variant

__all__ = ["show"]


@click.command()
@click.argument("name")
@click.option("--bibtex", is_flag=True, help="only the paper's BibTeX entry")
@plugin_option
def show(name: str, bibtex: bool, plugins: tuple[str, ...]) -> None:
    """Show one variant: formula, paper, strengths and weaknesses, forwards, shapes."""
    from bakeoff import load

    catalog = load(plugins)
    show_problems(catalog.problems)
    variant = catalog[name]
    if not bibtex:
        click.echo("\n".join(_card(catalog, variant)))
    elif variant.metadata.paper:
        click.echo(variant.metadata.paper.bibtex)
    else:
        raise click.UsageError(f"{variant.name} names no paper")


def _card(catalog: Catalog, variant: Variant) -> Iterator[str]:
    metadata = variant.metadata
    aliases = f", also {', '.join(metadata.aliases)}" if metadata.aliases else ""
    heading = f"{metadata.title} ({variant.kind} {variant.name}{aliases})"
    yield heading
    yield "=" * len(heading)
    yield from _paragraph(metadata.summary)
    if metadata.control:
        yield from _paragraph(CONTROL)
    yield from _section("Formula", [metadata.formula])
    yield from _section("Strengths", metadata.strengths, "+ ")
    yield from _section("Weaknesses", metadata.weaknesses, "- ")
    yield from _section("Use it when", [metadata.use_when])
    yield from _section("Shapes", shapes(variant))
    yield from _section("Options", (f"{n} = {v!r}" for n, v in variant.options.items()))
    yield from _section("Tensors", tensors(variant))
    yield from _section("Forwards", (forward_told(variant, name) for name in variant.forwards))
    yield from _section(
        "Declared, and measured",
        (f"{name.replace('_', ' ')}: {said(v)}" for name, v in metadata.properties.items()),
    )
    yield from _section("Identities, tested", (identity_told(i) for i in variant.identities))
    if variant.approximates:
        yield from _section("Approximates", [variant.approximates])
    yield from _section("Section of the textbook", [metadata.section])
    if variant.kind == "attention":
        yield from _maps(variant)
    yield from _section("Tags", [", ".join(metadata.tags)])
    if metadata.paper:
        paper = metadata.paper
        told = f"{', '.join(paper.authors)} ({paper.year}). {paper.title}. {paper.url}"
        yield from _section("Paper", [told])
        yield from ("", *(f"  {line}" for line in paper.bibtex.splitlines()))
    yield from _section("Comes from", [catalog.origins.get(variant.name, "")])


def _section(title: str, lines: Iterable[str], mark: str = "") -> Iterator[str]:
    lines = [line for line in lines if line]
    if lines:
        yield from ("", title)
        for line in lines:
            yield from _paragraph(line, mark)


def _paragraph(text: str, mark: str = "") -> list[str]:
    later = "  " + " " * max(len(mark), 2)
    return textwrap.wrap(
        text, 80, initial_indent=f"  {mark}", subsequent_indent=later, break_long_words=False
    )


def _maps(variant: Variant) -> Iterator[str]:
    """Who attends to whom, queries down and keys across, computed from the reference."""
    from bakeoff.reports.maps import Picture, shaded
    from bakeoff.suites.maps import MAPPED, attention_map
    from bakeoff.suites.verdicts import Unsupported, brief

    yield from ("", "Who attends to whom")
    yield from _paragraph(
        "One example with random tensors, not training: queries down, keys across; blank is no "
        "influence at all."
    )
    for pattern in MAPPED:
        try:
            found = attention_map(variant, pattern)
        except Unsupported as answer:
            yield from ("", *_paragraph(f"{pattern}: {answer}"))
            continue
        except Exception as error:  # the card is shown whatever the plugin raises
            yield from ("", *_paragraph(f"{pattern}: {brief(error)}"))
            continue
        options = ", ".join(f"{name} = {value}" for name, value in found.options.items())
        picture = Picture(variant.name, pattern, found.share, tuple(found.rows), options)
        yield from ("", *_paragraph(picture.told), "")
        yield from (f"  {line}".rstrip() for line in shaded(picture.rows))
