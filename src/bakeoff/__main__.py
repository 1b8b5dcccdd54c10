"""``python -m bakeoff`` and the console script."""

from __future__ import annotations

import os
import sys
import threading

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
        _leave(2)
    except SystemExit as end:
        _leave(end.code)


def _leave(status: str | int | None) -> None:
    """Exit, without waiting for a thread that a plugin started and that may never end."""
    if any(not t.daemon for t in threading.enumerate() if t is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else bool(status))
    sys.exit(status)


if __name__ == "__main__":
    main()
