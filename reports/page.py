"""The HTML page: one file that works offline, from the same blocks as the other reports."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

from bakeoff.reports.blocks import Block, Cards, Heading, OnPage
from bakeoff.reports.web.body import Body
from bakeoff.reports.web.filters import filters
from bakeoff.reports.web.results import packed

__all__ = ["page"]

#: Nothing is fetched, whatever a plugin's name or an error's text may hold.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)
#: In this order: the first brings what the others use.
_SCRIPTS = ("state.js", "filters.js", "tables.js", "cards.js", "charts.js")


def page(blocks: Iterable[Block]) -> str:
    """A complete page."""
    blocks = list(_flat(blocks))
    title = next(b.text for b in blocks if isinstance(b, Heading))
    body = Body()
    main = "\n".join(body.parts(blocks))
    cards = {body.cards[id(c)]: c for b in blocks if isinstance(b, Cards) for c in b.cards}
    data = {"charts": body.charts, "results": packed(cards)}
    scripts = "".join(f"<script>{_file(name)}</script>\n" for name in _SCRIPTS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<style>{_file("page.css")}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header class="side">
{filters(blocks)}
<details id="contents" open><summary>Contents</summary>
<nav aria-label="Contents">{"".join(body.links)}</nav></details>
</header>
<main id="main" tabindex="-1">
{main}
</main>
<script type="application/json" id="variants">{_inert(_variants(blocks))}</script>
<script type="text/plain" id="data">{_compressed(data)}</script>
{_bundle() if body.charts else ""}
{scripts}</body>
</html>
"""


def _flat(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, OnPage):
            yield from _flat(block.blocks)
        else:
            yield block


def _variants(blocks: Iterable[Block]) -> dict[str, dict[str, Any]]:
    """By name the kind and the tags, by which rows are chosen."""
    return {
        card.variant: {
            "kind": card.kind,
            "tags": card.about.metadata.tags if card.about else (),
        }
        for block in blocks
        if isinstance(block, Cards)
        for card in block.cards
    }


def _inert(value: object) -> str:
    """JSON in which nothing can end the script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _compressed(value: object) -> str:
    """JSON in letters and digits: compressed to a fifth, for it is by far the largest part."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _bundle() -> str:
    import vl_convert

    # In a function of its own: the bundle's top-level names would collide with others. The typing
    # of vl_convert says that the snippet is required; it is not.
    bundle = re.sub(r"</(?=script)", r"<\\/", vl_convert.javascript_bundle(), flags=re.I)  # type: ignore[call-arg]
    return f"<script>(() => {{{bundle}}})();</script>"


def _file(name: str) -> str:
    return resources.files("bakeoff.reports.web").joinpath(name).read_text(encoding="utf-8")
