"""Write the pages that come from the code: ``python docs/generate.py``.

docs/variants/ gets a page for each built-in variant and a list of them, docs/metrics.md every
metric of every suite. A test holds them to be what this script writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import bakeoff
from bakeoff.registry.binding import takes
from bakeoff.registry.metadata import CONTROL, SECTIONS
from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text
from bakeoff.reports.text import markdown
from bakeoff.suites.metrics import Metric
from bakeoff.suites.product import usual_heads
from bakeoff.suites.spec import Suite, suites_of
from bakeoff.wording import forward_told, identity_told, said, shapes, tensors

DOCS = Path(__file__).parent
_NOTE = "<!-- Written by docs/generate.py from the code: change it there. -->\n\n"
_VARIES = {
    "rounding": "its value, from a threshold on",
    "launch": "between launches",
    "seed": "between seeds",
}


def pages() -> dict[str, str]:
    """Every page that is written, by its path beneath docs/."""
    catalog = bakeoff.load(entry_points=False, pyproject=False)
    # Adapters depend on what is installed here.
    own = {name: v for name, v in catalog.items() if "peer" not in v.metadata.tags}
    found = {f"variants/{name}.md": _variant(variant) for name, variant in own.items()}
    found["variants/README.md"] = _index(own)
    found["metrics.md"] = _metrics(suites_of(catalog).values())
    return {path: _NOTE + text for path, text in found.items()}


def _variant(variant: bakeoff.Variant) -> str:
    """One variant's page; the formula stands between dollar signs, for GitHub to typeset."""
    head = markdown(_head(variant))
    formula = f"$$\n{variant.metadata.formula}\n$$\n"
    code = f"```python\nimport bakeoff\n\ncatalog = bakeoff.load()\n{_call(variant)}\n```\n"
    parts = [head, formula, markdown(_body(variant)), "## In code\n", code]
    if variant.metadata.paper:
        parts += ["## Paper\n", f"```bibtex\n{variant.metadata.paper.bibtex}\n```\n"]
    return "\n".join(parts)


def _head(variant: bakeoff.Variant) -> Iterator[Block]:
    metadata = variant.metadata
    yield Heading(1, metadata.title)
    also = [", also ", ", ".join(metadata.aliases)] if metadata.aliases else []
    yield Text((f"{variant.kind.capitalize()} ", Code(variant.name), *also, ". ", metadata.summary))
    if metadata.control:
        yield Text((CONTROL,))


def _body(variant: bakeoff.Variant) -> Iterator[Block]:
    metadata = variant.metadata
    yield from _list("Strengths", metadata.strengths)
    yield from _list("Weaknesses", metadata.weaknesses)
    yield from _list("Use it when", [metadata.use_when])
    yield from _list("Shapes", shapes(variant), code=True)
    yield from _list("Options", (f"{n} = {v!r}" for n, v in variant.options.items()), code=True)
    yield from _list("Tensors", tensors(variant), code=True)
    yield from _list("Forwards", (forward_told(variant, name) for name in variant.forwards))
    told = (f"{name.replace('_', ' ')}: {said(v)}" for name, v in metadata.properties.items())
    yield from _list("Declared, and measured", told)
    yield from _list("Identities, tested", map(identity_told, variant.identities), code=True)
    if variant.approximates:
        yield from _list("Approximates", [variant.approximates], code=True)
    yield from _list("Tags", [", ".join(metadata.tags)])


def _list(title: str, items: Iterable[str], *, code: bool = False) -> Iterator[Block]:
    found = [item for item in items if item]
    if found:
        yield Heading(2, title)
        yield Items(tuple((Code(item) if code else item,) for item in found))


def _call(variant: bakeoff.Variant) -> str:
    """How it becomes a module."""
    if variant.kind != "attention":
        return f'{variant.kind} = bakeoff.module(catalog["{variant.name}"], 256)'
    grid = ((8, 8),) if takes(variant, "grid") else None
    shape = usual_heads(variant, bakeoff.Shape(2, 4, 4, 64, 64, 32, 32, grid))
    sizes = {name: size for name, size in asdict(shape).items() if size is not None}
    told = "\n".join(f"    {name}={size}," for name, size in sizes.items())
    return (
        f"shape = bakeoff.Shape(\n{told}\n)\n"
        f'attention = bakeoff.module(catalog["{variant.name}"], shape)'
    )


def _index(catalog: Mapping[str, bakeoff.Variant]) -> str:
    """The variants by kind and section, each with a link to its page."""
    lines = ["# Variants", "", f"{len(catalog)} are built in; `bakeoff list` shows them, too."]
    for kind, sections in SECTIONS.items():
        lines += ["", f"## {kind.capitalize()}"]
        own = [variant for variant in catalog.values() if variant.kind == kind]
        for section in (*sections, ""):
            named = [v for v in own if v.metadata.section == section]
            if named and sections:
                lines += ["", f"### {(section or 'other').capitalize()}"]
            lines += [""] if named else []
            lines += [f"- [{v.name}]({v.name}.md): {v.metadata.summary}" for v in named]
    return "\n".join(lines) + "\n"


def _metrics(suites: Iterable[Suite]) -> str:
    blocks: list[Block] = [
        Heading(1, "Metrics"),
        Text(
            (
                "What each suite measures, by the names that records bear. A check has no value: "
                "its status says whether it passed. How to read the numbers: see the guide.",
            )
        ),
    ]
    for suite in suites:
        blocks += [Heading(2, suite.name), Text((suite.summary,))]
        rows = tuple(
            (
                Code(name),
                metric.unit or "-",
                metric.better or "-",
                _compared(metric),
                metric.meaning,
            )
            for name, metric in suite.metrics.items()
        )
        blocks.append(Grid(("metric", "unit", "better", "compared", "meaning"), rows))
    return markdown(blocks)


def _compared(metric: Metric) -> str:
    """What `bakeoff compare` looks at."""
    if not metric.better:
        return "its status"
    return _VARIES.get(metric.varies, "exactly")


def main() -> None:
    """Write them; pages of variants that are no more are removed."""
    written = pages()
    (DOCS / "variants").mkdir(exist_ok=True)
    for old in (DOCS / "variants").glob("*.md"):
        if f"variants/{old.name}" not in written:
            old.unlink()
    for path, text in written.items():
        (DOCS / path).write_text(text, encoding="utf-8")
    print(f"{len(written)} pages written.", file=sys.stderr)


if __name__ == "__main__":
    main()
