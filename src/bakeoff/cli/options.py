"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakeoff.registry.errors import BakeoffError

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Problem

__all__ = [
    "explained",
    "listed",
    "plugin_option",
    "results_option",
    "share_of",
    "show_problems",
    "size_of",
    "written",
]

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


def share_of(flag: str, text: str) -> float:
    """3%, or 0.03.

    Raises:
        UsageError: For what is no number.
    """
    body = text.strip()
    try:
        return float(body[:-1]) / 100 if body.endswith("%") else float(body)
    except ValueError:
        raise click.UsageError(f"{flag}: got {text!r}, expected a share such as 3%") from None


def size_of(flag: str, text: str) -> int:
    """8GiB, 512MB or a number of bytes; units are powers of 1024.

    Raises:
        UsageError: For what is no size.
    """
    units = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    body = text.strip().lower().removesuffix("b").removesuffix("i")
    number, unit = (body[:-1], body[-1]) if body and body[-1] in units else (body, "")
    try:
        size = float(number) * units[unit]
    except ValueError:
        size = -1
    if size <= 0:
        raise click.UsageError(f"{flag}: got {text!r}, expected a size such as 8GiB")
    return int(size)


def written(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file and say so.

    Raises:
        BakeoffError: Where the file can't be written.
    """
    if output is None:
        click.echo(text, nl=False)
        return
    with explained(output):
        output.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {output}.", err=True)


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """Turn what the system says of a file into what to do about it."""
    try:
        yield
    except OSError as error:
        told = error.strerror or str(error)
        raise BakeoffError(f"-o {output}: {told}; choose another file") from error
