"""The HTML page: one file that works offline, from the same blocks as the other reports."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import groupby

from bakeoff.reports.blocks import Block, Chart, Code, Figure, Grid, Heading, Items, Maps, Text
from bakeoff.reports.charts import chart
from bakeoff.reports.maps import Picture, figure

__all__ = ["page"]

#: Nothing is fetched, whatever a plugin's name or an error's text may hold.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)
#: Words that get a colour of their own.
_STATUSES = ("right", "ok", "wrong", "failed", "crashed", "timeout", "oom", "unverified")
#: Longer tables are folded.
_MOST_ROWS = 16


def page(blocks: Iterable[Block]) -> str:
    """A complete page."""
    blocks = list(blocks)
    title = next(b.text for b in blocks if isinstance(b, Heading))
    body = "\n".join(_body(blocks))
    charts = [
        chart(block.table) if isinstance(block, Chart) else dict(block.spec)
        for block in blocks
        if isinstance(block, Chart | Figure)
    ]
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
<nav aria-label="Contents">{_contents(blocks)}</nav>
<main>
{body}
</main>
<script type="application/json" id="charts">{_inert(charts)}</script>
{_scripts() if charts else ""}
</body>
</html>
"""


def _body(blocks: list[Block]) -> Iterator[str]:
    charts = 0
    after_chart = False
    for i, block in enumerate(blocks):
        match block:
            case Heading(level, text):
                yield f'<h{level} id="b{i}">{html.escape(text)}</h{level}>'
            case Text(pieces):
                yield f"<p>{_spans(pieces)}</p>"
            case Items(items):
                yield "<ul>" + "".join(f"<li>{_spans(item)}</li>" for item in items) + "</ul>"
            case Chart() | Figure():
                yield f'<div class="chart" id="chart{charts}"></div>'
                charts += 1
            case Grid():
                folded = block.title and (after_chart or len(block.rows) > _MOST_ROWS)
                yield _folded(block) if folded else _table(block)
            case Maps(heading, text, pictures):
                yield f'<h{heading.level} id="b{i}">{html.escape(heading.text)}</h{heading.level}>'
                yield f"<p>{_spans(text.pieces)}</p>"
                yield f'<div class="maps">{"".join(_figures(pictures))}</div>'
        after_chart = isinstance(block, Chart)


def _figures(pictures: Iterable[Picture]) -> Iterator[str]:
    for variant, own in groupby(pictures, key=lambda picture: picture.variant):
        yield figure(variant, own)


def _folded(grid: Grid) -> str:
    title = html.escape(grid.title)
    return f"<details><summary>{title}</summary>{_table(grid)}</details>"


def _table(grid: Grid) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.headers)
    rows = "".join(
        f'<tr><th scope="row">{_spans(row[:1])}</th>' + "".join(map(_cell, row[1:])) + "</tr>"
        for row in grid.rows
    )
    return (
        '<div class="scroll"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    status = f' class="{text}"' if text in _STATUSES else ""
    return f"<td{status}>{_spans((text,))}</td>"


def _spans(pieces: Iterable[str]) -> str:
    return "".join(
        f"<code>{html.escape(piece)}</code>" if isinstance(piece, Code) else html.escape(piece)
        for piece in pieces
    )


def _contents(blocks: list[Block]) -> str:
    """Links to the headings of the second and third level."""
    headings = [block.heading if isinstance(block, Maps) else block for block in blocks]
    links = [
        f'<a class="h{block.level}" href="#b{i}">{html.escape(block.text)}</a>'
        for i, block in enumerate(headings)
        if isinstance(block, Heading) and block.level in (2, 3)
    ]
    return "".join(links)


def _inert(charts: list[dict[str, object]]) -> str:
    """JSON in which nothing can end the script element."""
    return json.dumps(charts, ensure_ascii=False).replace("<", "\\u003c")


def _scripts() -> str:
    import vl_convert

    # In a function of its own: the bundle's top-level names would collide with others. The typing
    # of vl_convert says that the snippet is required; it is not.
    bundle = re.sub(r"</(?=script)", r"<\\/", vl_convert.javascript_bundle(), flags=re.I)  # type: ignore[call-arg]
    return f"<script>(() => {{{bundle}}})();</script>\n<script>{_file('page.js')}</script>"


def _file(name: str) -> str:
    return resources.files("bakeoff.reports").joinpath(name).read_text(encoding="utf-8")
