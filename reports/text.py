"""Documents as text: for a terminal of some width, and as Markdown for a pull request."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from tabulate import tabulate

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text

__all__ = ["markdown", "terminal"]

#: A name longer than this is broken into lines.
_LONGEST_NAME = 40


def terminal(blocks: Iterable[Block], width: int = 80) -> str:
    """Plain text, no line of which is longer than ``width``."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                rule = {1: "=", 2: "="}.get(level, "-")
                parts.append(f"{textwrap.fill(text, width)}\n{rule * min(len(text), width)}")
            case Text(pieces):
                parts.append(textwrap.fill("".join(pieces), width))
            case Items(items):
                parts.append("\n".join(_bullet("".join(item), width) for item in items))
            case Grid():
                parts.extend(_grids(block, width))
    return "\n\n".join(parts) + "\n"


def markdown(blocks: Iterable[Block]) -> str:
    """GitHub's Markdown; what plugins and results say stands in code spans, as it is."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"{'#' * level} {_escaped(text)}")
            case Text(pieces):
                parts.append(_spans(pieces))
            case Items(items):
                parts.append("\n".join(f"- {_spans(item)}" for item in items))
            case Grid(headers, rows):
                cells = [[_spans((cell,)) for cell in row] for row in rows]
                names = [_escaped(header.replace("\n", " ")) for header in headers]
                parts.append(tabulate(cells, names, "pipe", colalign=_aligned(headers)))
    return "\n\n".join(parts) + "\n"


def _bullet(text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent="- ", subsequent_indent="  ")


def _grids(grid: Grid, width: int) -> Iterator[str]:
    """The grid; where it is too wide several, in each of which the names stand again."""
    names = ["\n".join(textwrap.wrap(row[0], _LONGEST_NAME)) for row in grid.rows]
    columns = [[header, *(row[i] for row in grid.rows)] for i, header in enumerate(grid.headers)]
    columns[0] = [grid.headers[0], *names]
    room = width - 2 - max(len(line) for text in columns[0] for line in text.split("\n"))
    for column in columns[1:]:
        column[1:] = ["\n".join(textwrap.wrap(cell, max(room, 10))) for cell in column[1:]]
    widths = [max(len(line) for text in column for line in text.split("\n")) for column in columns]
    left = list(range(1, len(columns)))
    while left:
        taken, used = [0], widths[0]
        while left and (len(taken) == 1 or used + 2 + widths[left[0]] <= width):
            taken.append(left.pop(0))
            used += 2 + widths[taken[-1]]
        # Headers as rows: tabulate would pad them, and the columns with them.
        rows = [[columns[i][0], "-" * widths[i], *columns[i][1:]] for i in taken]
        yield tabulate(
            list(zip(*rows, strict=True)),
            tablefmt="plain",
            colalign=_aligned(taken),
            disable_numparse=True,
        )


def _aligned(columns: Sequence[object]) -> list[str]:
    return ["left", *("right" for _ in columns[1:])]


def _spans(pieces: Iterable[str]) -> str:
    return "".join(_code(p) if isinstance(p, Code) else _escaped(p) for p in pieces)


def _code(text: str) -> str:
    """A code span: neither markup nor a mention nor an address is followed in it."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`" if text.strip() else ""


def _escaped(text: str) -> str:
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text
