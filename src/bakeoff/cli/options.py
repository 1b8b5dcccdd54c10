"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Problem

__all__ = ["listed", "plugin_option", "results_option", "show_problems"]

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


class _Listed(click.ParamType[tuple[Any, ...]]):
    """Values that stand together with commas."""

    name = "list"

    def __init__(self, of: type) -> None:
        self.of = of

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        try:
            return tuple(self.of(part) for part in parts if part)
        except ValueError:
            self.fail(f"got {value!r}, expected integers such as 128 or 128,512", param, ctx)


def listed(
    flag: str, name: str, text: str, *, of: type = str, metavar: str = "A,B,…"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A flag that may be repeated, and whose values may stand together with commas."""

    def flat(
        ctx: click.Context, param: click.Parameter, values: tuple[tuple[Any, ...], ...]
    ) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(item for value in values for item in value))

    return click.option(
        flag, name, type=_Listed(of), multiple=True, help=text, metavar=metavar, callback=flat
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
