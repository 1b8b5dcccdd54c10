"""``bakeoff merge``: one results file from several."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--results",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bakeoff-results.sqlite"),
    show_default=True,
    help="the results file that they are added to; made where there is none",
)
def merge(files: tuple[Path, ...], results: Path) -> None:
    """Add what FILES hold to one results file: those of shards, or of several machines.

    A cell that was measured twice is kept twice; reports show the later measurement.
    """
    from bakeoff.suites.merge import merge as add

    found = add(files, results)
    click.echo(f"{found.cells} cells added to {results}.")
    if found.again:
        click.echo(f"{found.again} of them were measured twice: both are kept, the later is shown.")
    if found.same:
        click.echo(f"{found.same} were there already, the very same measurements.")
