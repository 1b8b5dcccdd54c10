"""``bakeoff pick``: what to take on this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import (
    listed,
    plugin_option,
    results_option,
    show_problems,
    size_of,
    written,
)

if TYPE_CHECKING:
    from bakeoff.reports.pick.pick import Pick

__all__ = ["pick"]


@click.command()
@click.option("--kind", required=True, help="activation, attention or connection")
@click.option("--seq-len", "seq_len", type=click.IntRange(min=1), required=True, help="length N")
@click.option("--causal", is_flag=True, help="short for --pattern causal_self")
@click.option("--pattern", help="self, cross, causal_self, causal_cross or decode")
@click.option("--train", is_flag=True, help="forward and backward together")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--mode", type=click.Choice(["eager", "compiled"]), default="eager",
              show_default=True)  # fmt: skip
@click.option("--batch", type=int, help="where the results hold several; likewise the next")
@click.option("--heads", type=int)
@click.option("--head-dim", "head_dim", type=int)
@click.option("--features", type=int)
@click.option("--threads", type=int)
@listed("--tag", "tags", "tags that a variant must have, all of them")
@click.option("--max-memory", metavar="SIZE", help="what a call may hold at the most, as 4GB")
@click.option("--max-approximation-error", type=float, metavar="ERROR",
              help="how far an approximation may be from what it stands for")  # fmt: skip
@listed("--min-accuracy", "accuracies", "the least accuracy on a task that was learnt",
        metavar="TASK:0.9,…")  # fmt: skip
@click.option("--measure", is_flag=True, help="measure first what is missing")
@click.option("--format", "wanted", type=click.Choice(["text", "markdown", "json"]),
              default="text", show_default=True)  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
              help="the file to write")  # fmt: skip
@results_option
@plugin_option
def pick(
    kind: str,
    seq_len: int,
    causal: bool,
    pattern: str | None,
    train: bool,
    dtype: str,
    device: str,
    mode: str,
    tags: tuple[str, ...],
    max_memory: str | None,
    max_approximation_error: float | None,
    accuracies: tuple[str, ...],
    measure: bool,
    wanted: str,
    output: Path | None,
    results: Path,
    plugins: tuple[str, ...],
    **sizes: int | None,
) -> None:
    """Say which variant to take on this machine, with the reasons and what was ruled out.

    Only what was measured on this machine with this software counts; what is wrong, or was not
    found right in this dtype, is never taken. The exit status is 1 where nothing fits.
    """
    if causal and pattern not in (None, "causal_self"):
        raise click.UsageError(f"--causal is short for --pattern causal_self, got {pattern!r} too")
    limit = size_of("--max-memory", max_memory) if max_memory else None
    least = dict(_accuracy(text) for text in accuracies)

    from bakeoff import load
    from bakeoff.cli.run import Bar
    from bakeoff.picking import pick as choose

    catalog = load(plugins)
    show_problems(catalog.problems)
    with Bar() as bar:
        found = choose(
            kind,
            seq_len,
            pattern="causal_self" if causal else pattern,
            train=train,
            dtype=dtype,
            device=device,
            mode=mode,
            tags=tags,
            max_memory=limit,
            max_approximation_error=max_approximation_error,
            min_accuracy=least,
            results=results,
            measure=measure,
            catalog=catalog,
            progress=bar,
            **sizes,
        )
    written(_text(found, wanted), output)
    if found.taken is None:
        sys.exit(1)


def _text(found: Pick, wanted: str) -> str:
    from bakeoff.reports.pick.document import document, to_json
    from bakeoff.reports.text import markdown, terminal

    if wanted == "json":
        return to_json(found)
    if wanted == "markdown":
        return markdown(document(found))
    return terminal(document(found), max(40, shutil.get_terminal_size((80, 24)).columns))


def _accuracy(text: str) -> tuple[str, float]:
    task, _, least = text.rpartition(":")
    try:
        value = float(least)
    except ValueError:
        value = -1.0
    if not task or not 0 <= value <= 1:
        raise click.UsageError(f"--min-accuracy: got {text!r}, expected TASK:SHARE as digits:0.9")
    return task, value
