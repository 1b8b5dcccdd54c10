"""Documents as LaTeX: every grid a table with the rules of booktabs, for a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bakeoff.reports.blocks import Block, Grid, Heading

__all__ = ["latex"]

#: What LaTeX's own input encoding does not know, and what it takes for commands.
_MATHS = {
    "÷": r"\div", "×": r"\times", "±": r"\pm", "−": "-", "≤": r"\le", "≥": r"\ge", "≈": r"\approx",
    "∞": r"\infty", "→": r"\to", "·": r"\cdot", "²": "^2", "µ": r"\mu", "φ": r"\varphi",
    "σ": r"\sigma", "χ": r"\chi", "√": r"\surd", "∈": r"\in", "Σ": r"\Sigma",
}  # fmt: skip
_SPECIAL = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_KNOWN = {**_SPECIAL, **{c: rf"\ensuremath{{{told}}}" for c, told in _MATHS.items()}}
_HEAD = (
    "% Tables of bakeoff. They need \\usepackage{booktabs}, and \\usepackage{longtable} where one "
    "is\n% longer than a page."
)
#: Longer tables may break over pages.
_MOST_ROWS = 40


def latex(blocks: Iterable[Block]) -> str:
    """The tables alone, each with the headings above it as its caption; prose is left out."""
    return "\n\n".join([_HEAD, *_tables(blocks)]) + "\n"


def escaped(text: str) -> str:
    """Text as LaTeX shows it; a character that it can't be told becomes a question mark.

    Example:
        >>> print(escaped("50% of N² ≤ a_b"))
        50\\% of N\\ensuremath{^2} \\ensuremath{\\le} a\\_b
    """
    return "".join(_KNOWN.get(c, c if c.isascii() or c.isalpha() else "?") for c in text)


def _tables(blocks: Iterable[Block]) -> Iterator[str]:
    above: dict[int, str] = {}
    labels: set[str] = set()
    for block in blocks:
        match block:
            case Heading(level=level, text=text):
                above = {n: told for n, told in above.items() if n < level} | {level: text}
            case Grid():
                told = [text for level, text in sorted(above.items()) if level > 1]
                caption = ", ".join([*told, block.title.removeprefix("Table: ")]).strip(", ")
                yield _table(block, caption, _label(caption, labels))


def _table(grid: Grid, caption: str, label: str) -> str:
    columns = "l" + "r" * (len(grid.headers) - 1)
    head = _row(header.replace("\n", " ") for header in grid.headers)
    body = "\n".join(map(_row, grid.rows))
    named = rf"\caption{{{escaped(caption)}}}\label{{{label}}}"
    if len(grid.rows) > _MOST_ROWS:
        rows = f"\\toprule\n{head}\n\\midrule\n\\endhead\n{body}\n\\bottomrule"
        return f"\\begin{{longtable}}{{{columns}}}\n{named}\\\\\n{rows}\n\\end{{longtable}}"
    rows = f"\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule"
    inside = f"\\begin{{tabular}}{{{columns}}}\n{rows}\n\\end{{tabular}}"
    return f"\\begin{{table}}\n\\centering\n{named}\n{inside}\n\\end{{table}}"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def _label(caption: str, taken: set[str]) -> str:
    """From the caption, and unlike every other."""
    slug = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-") or "table"
    label, count = f"tab:{slug}", 1
    while label in taken:
        count += 1
        label = f"tab:{slug}-{count}"
    taken.add(label)
    return label
