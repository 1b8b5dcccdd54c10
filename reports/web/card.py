"""A variant's card: what it says of itself, how it is used, and where its results are."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from bakeoff.registry.metadata import CONTROL, Paper
from bakeoff.registry.variants import Variant
from bakeoff.reports.cards import Card, Property
from bakeoff.reports.checks import SYMBOLS
from bakeoff.reports.curves import curve_figure
from bakeoff.reports.maps import map_markup
from bakeoff.reports.units import number
from bakeoff.reports.verdicts import Verdict
from bakeoff.reports.web.formula import formula
from bakeoff.reports.web.usage import usage
from bakeoff.reports.words import plural

__all__ = ["card_markup"]

_GONE = (
    "No variant of this name is registered where this report was made: what it says of itself is "
    "not known. If a plugin of your own brought it, name that file with --plugin."
)


def card_markup(card: Card, anchor: str) -> str:
    """One card, folded."""
    title = card.about.metadata.title if card.about else "not registered"
    body = "".join(_parts(card))
    return (
        f'<details class="card" id="{anchor}" data-variant="{html.escape(card.variant)}">'
        f"<summary><h4><code>{html.escape(card.variant)}</code> {html.escape(title)}</h4>"
        f"{_badges(card.verdicts)}</summary>{body}</details>"
    )


def _parts(card: Card) -> Iterator[str]:
    if card.about is None:
        yield f'<p class="gone">{_GONE}</p>'
    else:
        yield from _said(card.about, card.origin)
    yield '<div class="columns">'
    if card.curve:
        yield curve_figure(card.curve)
    if card.pictures:
        yield '<figure class="seen"><figcaption>Who attends to whom</figcaption>'
        yield from (map_markup(picture) for picture in card.pictures)
        yield "</figure>"
    yield _verdicts(card.verdicts)
    yield _properties(card.properties)
    yield "</div>"
    if card.about is not None:
        yield f"<h5>In code</h5><pre><code>{html.escape(usage(card.about, card.rows))}</code></pre>"
        yield from _paper(card.about.metadata.paper)
    yield (
        '<details class="results"><summary>All results: '
        f"{plural(len(card.rows), 'record')}</summary></details>"
    )


def _said(variant: Variant, origin: str) -> Iterator[str]:
    metadata = variant.metadata
    told = f"{metadata.summary} {CONTROL}" if metadata.control else metadata.summary
    yield f'<p class="lead">{html.escape(told)}</p>'
    yield (
        '<div class="formula" tabindex="0" role="group" aria-label="Formula">'
        f"{formula(metadata.formula)}</div>"
    )
    yield '<div class="columns">'
    yield _list("Strengths", metadata.strengths)
    yield _list("Weaknesses", metadata.weaknesses)
    yield _list("Use it when", [metadata.use_when])
    facts = [("tags", ", ".join(metadata.tags)), ("also called", ", ".join(metadata.aliases))]
    facts += [("section", metadata.section), ("approximates", variant.approximates or "")]
    facts += [(f"option {name}", repr(value)) for name, value in variant.options.items()]
    facts += [("comes from", origin)]
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts
        if value
    )
    yield f"<div><h5>Facts</h5><dl>{rows}</dl></div></div>"


def _list(title: str, items: Iterable[str]) -> str:
    told = "".join(f"<li>{html.escape(item)}</li>" for item in items if item)
    return f"<div><h5>{title}</h5><ul>{told}</ul></div>" if told else ""


def _badges(verdicts: Iterable[Verdict]) -> str:
    """How many forwards have which verdict."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.verdict, []).append(verdict.label.rpartition(":")[2])
    return "".join(
        f'<span class="badge {name.split()[0]}">{name}: {html.escape(", ".join(forwards))}</span>'
        for name, forwards in found.items()
    )


def _verdicts(verdicts: Iterable[Verdict]) -> str:
    items = "".join(
        f"<li><code>{html.escape(v.label.rpartition(':')[2])}</code> {v.verdict}"
        + "".join(f", {html.escape(d)} error {number(e)}" for d, e in v.errors.items())
        + (f": {html.escape(v.reason)}" if v.reason else "")
        + "</li>"
        for v in verdicts
    )
    return f"<div><h5>Is it right?</h5><ul>{items}</ul></div>" if items else ""


def _properties(properties: Iterable[Property]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(p.name.replace("_", " "))}</th>'
        f"<td>{html.escape(p.declared)}</td>{_measured(p)}</tr>"
        for p in properties
    )
    if not rows:
        return ""
    return (
        "<div><h5>Declared and measured</h5><table><thead><tr>"
        '<th scope="col">property</th><th scope="col">declared</th><th scope="col">measured</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _measured(found: Property) -> str:
    if not found.status:
        return "<td>not measured</td>"
    told = "as declared" if found.status == "ok" else found.reason or found.status
    sign = SYMBOLS[found.status]
    return f'<td class="{found.status}">{sign} {html.escape(told)}</td>'


def _paper(paper: Paper | None) -> Iterator[str]:
    if paper is None:
        return
    title = html.escape(paper.title)
    if re.match(r"https?://", paper.url):
        title = f'<a href="{html.escape(paper.url)}" rel="noreferrer">{title}</a>'
    authors = html.escape(", ".join(paper.authors))
    yield f"<h5>Paper</h5><p>{authors} ({paper.year}). {title}.</p>"
    bibtex = html.escape(paper.bibtex)
    yield f"<details><summary>BibTeX</summary><pre><code>{bibtex}</code></pre></details>"
