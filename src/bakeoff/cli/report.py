"""``bakeoff report``: what the results say."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import (
    explained,
    listed,
    plugin_option,
    results_option,
    show_problems,
    written,
)

if TYPE_CHECKING:
    from bakeoff.suites.store import Results

__all__ = ["report", "table_of"]

_FORMATS = ("terminal", "markdown", "html", "latex", "csv", "json", "parquet", "svg", "png")
#: What a file's name says about its format.
_SUFFIXES = {".md": "markdown", ".html": "html", ".csv": "csv", ".json": "json",
             ".parquet": "parquet", ".tex": "latex", ".txt": "terminal"}  # fmt: skip


@click.command()
@click.argument("benchmarks", metavar="[FILE.json]", required=False,
                type=click.Path(dir_okay=False, path_type=Path))  # fmt: skip
@results_option
@click.option("--format", "wanted", type=click.Choice(_FORMATS),
              help="by default what the output's name says, else terminal")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="the file to write; for svg and png a folder, for a file a figure")  # fmt: skip
@listed("--kind", "kinds", "activation, attention, connection")
@listed("--suite", "suites", "accuracy, gradient, memory, speed")
@listed("--variant", "variants", "names")
@plugin_option
def report(
    benchmarks: Path | None,
    results: Path,
    wanted: str | None,
    output: Path | None,
    kinds: tuple[str, ...],
    suites: tuple[str, ...],
    variants: tuple[str, ...],
    plugins: tuple[str, ...],
) -> None:
    """Report on stored results: what is right, what it costs, and what failed.

    What is wrong is never ranked, and numbers of different environments never stand in one
    table. The HTML page has a card for each variant, of what it says of itself: where a plugin
    came from a file, name that with --plugin.
    FILE.json, which pytest-benchmark wrote, is reported on in place of a results file.
    """
    chosen = wanted or (_SUFFIXES.get(output.suffix, "terminal") if output else "terminal")
    if chosen in ("html", "parquet") and output is None:
        raise click.UsageError(f"--format {chosen} needs a file: add -o report.{chosen}")
    if chosen in ("svg", "png") and output is None:
        raise click.UsageError(f"--format {chosen} needs a folder: add -o figures")

    filters = {"kinds": kinds, "suites": suites, "variants": variants}
    with _opened(benchmarks, results) as opened:
        if chosen == "parquet":
            assert output is not None
            _write_parquet(opened, filters, output)
        elif chosen in ("svg", "png"):
            assert output is not None
            _draw(opened, filters, chosen, output)
        else:
            written(_text(opened, filters, chosen, plugins), output)


@contextmanager
def _opened(benchmarks: Path | None, results: Path) -> Iterator[Results]:
    """The results file, or what pytest-benchmark wrote as one that is gone afterwards."""
    if benchmarks is None:
        from bakeoff.suites.store import open_results

        yield open_results(results)
        return
    from bakeoff.suites.benchmarks import results_of

    with tempfile.TemporaryDirectory(prefix="bakeoff-") as folder:
        opened, others = results_of(benchmarks, folder)
        if others:
            click.echo(f"Left out: {others} benchmarks that are not of variants.", err=True)
        yield opened


def table_of(results: Path, suite: str) -> str:
    """What the report says of one suite, for a terminal."""
    from bakeoff.suites.store import open_results

    return _text(open_results(results), {"suites": (suite,)}, "terminal", ())


def _text(
    opened: Results, filters: dict[str, tuple[str, ...]], wanted: str, plugins: tuple[str, ...]
) -> str:
    if wanted in ("csv", "json"):
        from bakeoff.reports import export

        frame = export.chosen(opened.to_pandas(), **filters)
        return export.csv(frame) if wanted == "csv" else export.json(frame)
    from bakeoff.reports.contents import contents_of
    from bakeoff.reports.document import document

    contents = contents_of(opened, **filters)
    if wanted == "html":
        from bakeoff import load
        from bakeoff.reports.page import page

        catalog = load(plugins)
        show_problems(catalog.problems)
        # Hovering shows both ends of an interval.
        return page(document(contents, wide=False, catalog=catalog))
    from bakeoff.reports.text import markdown, terminal

    if wanted == "markdown":
        return markdown(document(contents, wide=True))
    if wanted == "latex":
        from bakeoff.reports.latex import latex

        return latex(document(contents, wide=True))
    width = max(40, shutil.get_terminal_size((80, 24)).columns)
    return terminal(document(contents, wide=False), width)


def _write_parquet(opened: Results, filters: dict[str, tuple[str, ...]], output: Path) -> None:
    from bakeoff.reports import export

    with explained(output):
        export.parquet(export.chosen(opened.to_pandas(), **filters), output)
    click.echo(f"Wrote {output}.", err=True)


def _draw(opened: Results, filters: dict[str, tuple[str, ...]], wanted: str, folder: Path) -> None:
    """A file for each figure, numbered in the order of the report."""
    from bakeoff.reports.contents import contents_of
    from bakeoff.reports.document import document
    from bakeoff.reports.drawings import drawings

    count = 0
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for count, drawing in enumerate(
            drawings(document(contents_of(opened, **filters), wide=False)), start=1
        ):
            data = drawing.png() if wanted == "png" else drawing.svg().encode()
            (folder / f"{count:03}-{drawing.name}.{wanted}").write_bytes(data)
    click.echo(f"Wrote {count} figure{'' if count == 1 else 's'} to {folder}.", err=True)
