"""The command line. Each command is imported when it is called for."""

from __future__ import annotations

import importlib

import click

__all__ = ["cli"]

_COMMANDS = {
    "list": ("bakeoff.cli.list", "variants", "List the variants."),
    "show": ("bakeoff.cli.show", "show", "Show one variant's card."),
    "initialisation": (
        "bakeoff.cli.initialisation",
        "initialisation",
        "Show how to initialise the layers before an activation.",
    ),
    "run": ("bakeoff.cli.run", "run", "Measure the variants and store the results."),
    "merge": ("bakeoff.cli.merge", "merge", "Join the results files of shards or machines."),
    "report": ("bakeoff.cli.report", "report", "Report on stored results."),
    "doctor": ("bakeoff.cli.doctor", "doctor", "Show the machine, and plugins with problems."),
}


class _Lazy(click.Group):
    """A group whose commands are modules, so that ``--help`` loads neither torch nor pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, _, text) in _COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bakeoff")
def cli() -> None:
    """Compare activation, attention and skip-connection variants on your own machine."""
