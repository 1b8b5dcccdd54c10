"""``python -m bakeoff`` and the console script."""

from __future__ import annotations

import sys

import click

from bakeoff.cli import cli
from bakeoff.registry.errors import BakeoffError

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error of ours is a message and exit status 2, not a traceback."""
    try:
        cli(prog_name="bakeoff")
    except BakeoffError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
