"""``bakeoff check``: the certificate of a variant."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bakeoff.cli.options import listed, plugin_option, show_problems

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog, Problem
    from bakeoff.reports.certificate import Certificate

__all__ = ["check"]


@click.command()
@click.argument("target", metavar="NAME|FILE.py")
@click.option("--format", "wanted", type=click.Choice(["text", "json", "markdown"]),
              default="text", show_default=True, help="how the certificate is written")  # fmt: skip
@listed("--forward", "forwards", "names of forwards; the reference is the oracle in any case")
@listed("--dtype", "dtypes", "float32, bfloat16, float16, float64")
@listed("--device", "devices", "cpu, cuda, …")
@plugin_option
def check(target: str, wanted: str, plugins: tuple[str, ...], **axes: tuple[str, ...]) -> None:
    """Check a variant, or every variant of a plugin file, and say what is wrong.

    Every probe, declared property, identity and gradient of every forward is checked, and its
    costs are counted; each runs in a process of its own. The exit status is 0 where all is right
    or unverified, and 1 where something is wrong.
    """
    from bakeoff import load
    from bakeoff.checking import named, problems_of

    catalog = load([*plugins, *([target] if target.endswith(".py") else [])])
    names, broken = named(catalog, target), problems_of(catalog, target)
    show_problems([problem for problem in catalog.problems if problem not in broken])
    certificates = _measured(catalog, names, {n: v for n, v in axes.items() if v})
    click.echo(_text(certificates, broken, wanted), nl=False)
    if broken or not all(certificate.passed for certificate in certificates):
        sys.exit(1)


def _measured(catalog: Catalog, names: list[str], axes: dict[str, Any]) -> list[Certificate]:
    from bakeoff.checking import check as certify
    from bakeoff.cli.run import Bar

    found = []
    for name in names:
        with Bar() as bar:
            found.append(certify(name, catalog=catalog, progress=bar, **axes))
    return found


def _text(certificates: list[Certificate], broken: list[Problem], wanted: str) -> str:
    if wanted == "json":
        data = {
            "certificates": [certificate.to_json() for certificate in certificates],
            "problems": [str(problem) for problem in broken],
        }
        return json.dumps(data, indent=1) + "\n"
    from bakeoff.reports.blocks import Code, Heading, Items
    from bakeoff.reports.certificate import blocks
    from bakeoff.reports.text import markdown, terminal

    document = list(blocks(certificates))
    if broken:
        document += [
            Heading(1, "Left out: it breaks the contract"),
            Items(tuple((Code(str(problem)),) for problem in broken)),
        ]
    return markdown(document) if wanted == "markdown" else terminal(document)
