"""``bakeoff initialisation``: gains and critical variances of activations, by quadrature."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import plugin_option, show_problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bakeoff.reports.blocks import Block
    from bakeoff.suites.flow.gains import Gains

__all__ = ["initialisation"]


@click.command()
@click.argument("names", nargs=-1)
@click.option("--bias-variance", type=click.FloatRange(min=0), default=0.05, show_default=True,
              help="σ_b² of the critical initialisation, where there is a choice")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="for programs")
@plugin_option
def initialisation(
    names: tuple[str, ...], bias_variance: float, as_json: bool, plugins: tuple[str, ...]
) -> None:
    """Show how to initialise the layers before an activation.

    NAMES are activations; without any, all that are elementwise. Learnable ones are taken as they
    begin.
    """
    from bakeoff import UnsupportedError, load
    from bakeoff import initialisation as by_quadrature
    from bakeoff.reports.text import terminal

    catalog = load(plugins)
    show_problems(catalog.problems)
    chosen = catalog.select(kind=None if names else "activation", names=names or None)
    found: list[Gains] = []
    for variant in chosen:
        try:
            found.append(by_quadrature(variant, bias_variance=bias_variance))
        except UnsupportedError as answer:
            if names:
                raise click.UsageError(str(answer)) from answer
    if as_json:
        click.echo(json.dumps([asdict(gains) for gains in found], indent=1))
        return
    click.echo(terminal(_blocks(found)), nl=False)


def _blocks(found: Sequence[Gains]) -> Iterator[Block]:
    from bakeoff.reports.blocks import Items, Text
    from bakeoff.reports.initialisations import LEGEND, initialisation_grid

    yield initialisation_grid([asdict(gains) for gains in found])
    yield Text((LEGEND,))
    reasons = [gains.reason for gains in found if gains.reason]
    if reasons:
        yield Items(tuple((reason,) for reason in reasons))
