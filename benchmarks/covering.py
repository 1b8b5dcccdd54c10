"""The covering array of a certificate as a table, with the share of pairs that it reaches.

python benchmarks/covering.py [VARIANT] [--write]: with ``--write`` into docs/covering.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from document import table

import bakeoff
from bakeoff.suites.covering import array_of, case_of, extra_of, words_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "covering.md"
DTYPES = ("float32", "bfloat16", "float16", "float64")
INTRODUCTION = """# The covering array

A certificate puts every forward of an attention to these sizes and arguments, and to what must
hold of any attention there: `{name}`, {rows} rows, which hold {reached} of the {pairs} pairs of two
values. What is left can't be: a decoding step that is not causal, and a side that is shorter than
one position. Of batch, lengths, causality, mask and dtype every possible triple is there. `more
keys` is more than four for each query; `more queries` is three for two keys, where under causality
the first see none. An array for another variant holds what that variant can do: key heads, grids,
its patterns. Written by `python benchmarks/covering.py --write`.
"""


def main() -> None:
    """Print the array, and write it where asked to."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    variant = bakeoff.load()[names[0] if names else "scaled_dot_product"]
    array = array_of(variant, DTYPES)
    text = INTRODUCTION.format(
        name=variant.name, rows=len(array.rows), reached=array.reached, pairs=array.pairs
    )
    values = [
        (name.replace("_", " "), ", ".join(map(str, found)))
        for name, found in array.factors.items()
    ]
    rows = [
        (str(n), words_of(case_of(variant, row), extra_of(row)))
        for n, row in enumerate(array.rows, 1)
    ]
    page = "\n".join([text, table(("factor", "values"), values), "", table(("row", "case"), rows)])
    print(page)
    if "--write" in sys.argv:
        DOCUMENT.write_text(f"{page}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
