"""Puts the tables that the proofs print into docs/measuring.md, between their marks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

__all__ = ["publish", "table"]

DOCUMENT = Path(__file__).parents[1] / "docs" / "measuring.md"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table of texts as they are."""
    return str(tabulate(list(rows), headers, "pipe", disable_numparse=True))


def publish(name: str, *paragraphs: str) -> None:
    """Print, and with ``--write`` put it into the document where its marks are."""
    text = "\n\n".join(paragraphs)
    print(text, end="\n\n", flush=True)
    if "--write" not in sys.argv:
        return
    begin, end = (f"<!-- {word} {name} -->" for word in ("begin", "end"))
    head, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    DOCUMENT.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
