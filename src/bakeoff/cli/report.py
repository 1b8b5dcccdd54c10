"""``bakeoff report``: what the results say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import listed, results_option
from bakeoff.registry.errors import BakeoffError

if TYPE_CHECKING:
    from bakeoff.suites.store import Results

__all__ = ["report", "table_of"]

_FORMATS = ("terminal", "markdown", "html", "csv", "json", "parquet")
#: What a file's name says about its format.
_SUFFIXES = {".md": "markdown", ".html": "html", ".csv": "csv", ".json": "json",
             ".parquet": "parquet", ".txt": "terminal"}  # fmt: skip


@click.command()
@results_option
@click.option("--format", "wanted", type=click.Choice(_FORMATS),
              help="by default what the output's name says, else terminal")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
              help="the file to write")  # fmt: skip
@listed("--kind", "kinds", "activation, attention, connection")
@listed("--suite", "suites", "accuracy, gradient, memory, speed")
@listed("--variant", "variants", "names")
def report(
    results: Path,
    wanted: str | None,
    output: Path | None,
    kinds: tuple[str, ...],
    suites: tuple[str, ...],
    variants: tuple[str, ...],
) -> None:
    """Report on stored results: what is right, what it costs, and what failed.

    What is wrong is never ranked, and numbers of different environments never stand in one
    table.
    """
    chosen = wanted or (_SUFFIXES.get(output.suffix, "terminal") if output else "terminal")
    if chosen in ("html", "parquet") and output is None:
        raise click.UsageError(f"--format {chosen} needs a file: add -o report.{chosen}")

    from bakeoff.suites.store import open_results

    opened = open_results(results)
    filters = {"kinds": kinds, "suites": suites, "variants": variants}
    if chosen == "parquet":
        assert output is not None
        _write_parquet(opened, filters, output)
    else:
        text = _text(opened, filters, chosen)
        if output is None:
            click.echo(text, nl=False)
            return
        with _explained(output):
            output.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {output}.", err=True)


def table_of(results: Path, suite: str) -> str:
    """What the report says of one suite, for a terminal."""
    from bakeoff.suites.store import open_results

    return _text(open_results(results), {"suites": (suite,)}, "terminal")


def _text(opened: Results, filters: dict[str, tuple[str, ...]], wanted: str) -> str:
    if wanted in ("csv", "json"):
        from bakeoff.reports import export

        frame = export.chosen(opened.to_pandas(), **filters)
        return export.csv(frame) if wanted == "csv" else export.json(frame)
    from bakeoff.reports.contents import contents_of
    from bakeoff.reports.document import document

    contents = contents_of(opened, **filters)
    if wanted == "html":
        from bakeoff.reports.page import page

        return page(document(contents, wide=False))  # hovering shows both ends of an interval
    from bakeoff.reports.text import markdown, terminal

    if wanted == "markdown":
        return markdown(document(contents, wide=True))
    width = max(40, shutil.get_terminal_size((80, 24)).columns)
    return terminal(document(contents, wide=False), width)


def _write_parquet(opened: Results, filters: dict[str, tuple[str, ...]], output: Path) -> None:
    from bakeoff.reports import export

    with _explained(output):
        export.parquet(export.chosen(opened.to_pandas(), **filters), output)


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        told = error.strerror or str(error)
        raise BakeoffError(f"-o {output}: {told}; choose another file") from error
