"""``bakeoff compare``: what became better, worse or wrong from one results file to another."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import listed, plugin_option, share_of, show_problems, written

if TYPE_CHECKING:
    from bakeoff.reports.compare.comparison import Comparison

__all__ = ["compare"]

_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("old", type=_file)
@click.argument("new", type=_file)
@click.option("--by", type=click.Choice(["ratio", "kernel_ratio", "time"]), default="ratio",
              show_default=True, help="what stands for a time")  # fmt: skip
@click.option("--threshold", default="5%", show_default=True, metavar="SHARE",
              help="the least change of a time that is called better or worse")  # fmt: skip
@click.option("--fail-on", "failing", metavar="VERDICT[:SHARE]",
              help="exit with 1 where a cell is worse (or undecided, …), as worse:5%")  # fmt: skip
@click.option("--format", "wanted", type=click.Choice(["text", "markdown", "json"]),
              default="text", show_default=True)  # fmt: skip
@click.option("-o", "--output", type=_file, help="the file to write")
@listed("--kind", "kinds", "activation, attention, connection")
@listed("--suite", "suites", "accuracy, gradient, memory, speed, …")
@listed("--variant", "variants", "names")
@plugin_option
def compare(
    old: Path,
    new: Path,
    by: str,
    threshold: str,
    failing: str | None,
    wanted: str,
    output: Path | None,
    kinds: tuple[str, ...],
    suites: tuple[str, ...],
    variants: tuple[str, ...],
    plugins: tuple[str, ...],
) -> None:
    """Compare two results files: of two commits, machines, devices or versions.

    Times need five launches a side (`bakeoff run --launches 5`); whatever differs between the
    environments is said first.
    """
    least = share_of("--threshold", threshold)
    verdict, share = _failing(failing, least)

    from bakeoff import load
    from bakeoff.comparing import compare as comparison_of

    catalog = load(plugins)
    show_problems(catalog.problems)
    found = comparison_of(
        old, new, by=by, threshold=least, catalog=catalog,
        kinds=kinds, suites=suites, variants=variants,
    )  # fmt: skip
    written(_text(found, wanted), output)
    bad = found.failing(verdict, share) if verdict else []
    if bad:
        click.echo(f"Failing because of --fail-on {failing}: {len(bad)} {verdict}.", err=True)
        sys.exit(1)


def _text(found: Comparison, wanted: str) -> str:
    from bakeoff.reports.compare.document import document, to_json
    from bakeoff.reports.text import markdown, terminal

    if wanted == "json":
        return to_json(found)
    if wanted == "markdown":
        return markdown(document(found))
    return terminal(document(found), max(40, shutil.get_terminal_size((80, 24)).columns))


def _failing(text: str | None, threshold: float) -> tuple[str, float]:
    """The verdict and the share of ``worse:5%``; an empty verdict where nothing fails."""
    from bakeoff.reports.compare.changes import VERDICTS

    if text is None:
        return "", 0.0
    verdict, colon, rest = text.partition(":")
    if verdict not in VERDICTS:
        raise click.UsageError(f"--fail-on: got {verdict!r}, expected one of {', '.join(VERDICTS)}")
    share = share_of("--fail-on", rest) if colon else 0.0
    if colon and verdict not in ("worse", "better"):
        raise click.UsageError(f"--fail-on: got {text!r}; a share goes with worse or better only")
    if colon and share < threshold:
        raise click.UsageError(
            f"--fail-on: got {rest}, but times count from {threshold:.3g} on; add "
            f"--threshold {rest}"
        )
    return verdict, share
