"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Problem

__all__ = ["plugin_option", "results_option", "show_problems"]

plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE.py", help="a file with plugins, to load too"
)
results_option = click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bakeoff-results.sqlite"),
    show_default=True,
    help="the results file",
)


def show_problems(problems: Sequence[Problem]) -> None:
    """Say on standard error which plugins could not be used."""
    if not problems:
        return
    noun = "problem" if len(problems) == 1 else "problems"
    click.echo(f"{len(problems)} {noun} with plugins, which were left out:", err=True)
    for problem in problems:
        click.echo(f"- {problem}", err=True)
    click.echo("`bakeoff doctor` shows where each was raised.", err=True)
