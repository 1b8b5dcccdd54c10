"""``bakeoff run``: measure, and store what comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakeoff.cli.options import (
    listed,
    plugin_option,
    results_option,
    share_of,
    show_problems,
    size_of,
)
from bakeoff.cli.report import table_of

if TYPE_CHECKING:
    from bakeoff.suites.explain import Explanation
    from bakeoff.suites.progress import Summary
    from bakeoff.suites.records import Cell, Record

#: Flag, field of the selection, type of a value, and help.
_AXES: tuple[tuple[str, str, type, str], ...] = (
    ("--kind", "kinds", str, "activation, attention, connection"),
    ("--variant", "variants", str, "names or aliases"),
    ("--tag", "tags", str, "tags that a variant must have, all of them"),
    ("--forward", "forwards", str, "names of forwards: reference, sdpa, …"),
    ("--pattern", "patterns", str, "self, cross, causal_self, causal_cross, decode"),
    ("--seq-len", "seq_lens", int, "sequence lengths N"),
    ("--kv-len", "kv_lens", int, "numbers of keys, for cross and causal_cross"),
    ("--grid", "grids", str, "for variants that take one: none, square, pyramid, 8x12, 8x12+4x6"),
    ("--batch", "batches", int, "batch sizes"),
    ("--heads", "heads", int, "numbers of heads"),
    ("--kv-heads", "kv_heads", int, "numbers of key and value heads"),
    ("--head-dim", "head_dims", int, "sizes of a head"),
    ("--features", "features", int, "sizes of a row, for activations and connections"),
    ("--dtype", "dtypes", str, "float32, bfloat16, float16, float64"),
    ("--covering", "covering", str, "dtypes in which forwards meet a covering array of sizes"),
    ("--device", "devices", str, "cpu, cuda, …"),
    ("--direction", "directions", str, "forward, backward, training"),
    ("--mode", "modes", str, "eager, compiled"),
    ("--inputs", "inputs", str, "normal, peaked, or a file of tensors"),
    ("--seed", "seeds", int, "seeds of what is drawn"),
    ("--depth", "depths", int, "layers, of stacks for gradient flow and of models that learn"),
    (
        "--initialisation",
        "initialisations",
        str,
        "of stacks of activations: he, xavier, orthogonal, critical, critical_orthogonal",
    ),
    ("--threads", "threads", int, "threads within one operation"),
    ("--claim", "claims", str, "names of claims, for --suite claims"),
    ("--task", "tasks", str, "tasks of the learning suite"),
    ("--model", "models", str, "models of the suite applications: bert, gpt2, vit, …"),
)
#: Forwards that `--explain` names for one reason.
MOST_LABELS = 12
_STATUSES = ("wrong", "failed", "crashed", "timeout", "oom", "unsupported")


def _axis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, name, of, text in reversed(_AXES):
        command = listed(flag, name, text, of=of)(command)
    return command


@click.command()
@click.option("--preset", default="quick", show_default=True, help="quick, standard or full")
@listed("--suite", "suites", "accuracy, gradient, memory, scaling, speed; only where named: "
        "applications, claims, learning")  # fmt: skip
@_axis_options
@click.option("--option", "options", multiple=True, metavar="NAME=A,B,…",
              help="values of a variant's option, to sweep")  # fmt: skip
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="how long one race of the speed suite may take")  # fmt: skip
@click.option("--precision", metavar="SHARE",
              help="the half-width wanted for the interval of a ratio, as 3%")  # fmt: skip
@click.option(
    "--baseline",
    metavar="VARIANT:FORWARD",
    help="what rivals are compared with, instead of the fixed one of their kind",
)
@click.option(
    "--cache",
    type=click.Choice(["warm", "cold"]),
    help="whether caches hold the inputs; the CPU's default is warm, a GPU's cold",
)
@click.option("--draws", type=click.IntRange(min=1), metavar="K",
              help="how many stacks are drawn for each cell of gradient flow")  # fmt: skip
@click.option("--scale", type=click.Choice(["quick", "standard", "full"]),
              help="how large the experiments of claims are")  # fmt: skip
@click.option("--launches", type=click.IntRange(min=1), metavar="K",
              help="repeat each race in K new processes")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), metavar="S",
              help="training steps of one run of the learning suite")  # fmt: skip
@click.option("--per-section/--every-variant", "per_section", default=None,
              help="whether one variant of each section learns for all (learning)")  # fmt: skip
@click.option("--effort", type=click.FloatRange(min=0, min_open=True), metavar="X",
              help="train X times as many steps as usual (applications)")  # fmt: skip
@click.option(
    "--malloc",
    type=click.Choice(["system", "tuned"]),
    default="system",
    show_default=True,
    help="glibc's allocator: as a user has it, or with less noise",
)
@click.option("--shard", metavar="I/N", help="do the I-th of N parts; `bakeoff merge` joins them")
@click.option("--workers", type=click.IntRange(min=1), metavar="N",
              help="jobs side by side where nothing is timed  [default: one a core]")  # fmt: skip
@click.option("--explain", "explaining", is_flag=True,
              help="measure nothing: say what would be, and why")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              default=120.0, show_default=True,
              help="how long one cell may take without a sign of life")  # fmt: skip
@click.option("--memory-limit", metavar="SIZE", help="what a job may allocate, as 8GiB")
@listed("--fail-on", "failing", "exit with 1 where such a row came: " + ", ".join(_STATUSES),
        metavar="STATUS,…")  # fmt: skip
@results_option
@plugin_option
def run(
    preset: str,
    suites: tuple[str, ...],
    options: tuple[str, ...],
    precision: str | None,
    malloc: str,
    shard: str | None,
    workers: int | None,
    explaining: bool,
    timeout: float,
    memory_limit: str | None,
    failing: tuple[str, ...],
    results: Path,
    plugins: tuple[str, ...],
    **axes: Any,
) -> None:
    """Measure every selected variant, and store the results.

    What the results file holds already is not measured again, so a run that was stopped goes on
    where it stopped. Flags narrow or widen the axes of the preset; each may be repeated.
    """
    for status in failing:
        if status not in _STATUSES:
            raise click.UsageError(
                f"--fail-on: got {status!r}, expected one of {', '.join(_STATUSES)}"
            )
    given = {name: value for name, value in axes.items() if value not in (None, ())}
    if options:
        given["options"] = _swept(options)
    if precision:
        given["precision"] = share_of("--precision", precision)
    given |= {"malloc": malloc, "shard": _part(shard) if shard else (1, 1)}
    limit = size_of("--memory-limit", memory_limit) if memory_limit else None

    from bakeoff import load
    from bakeoff.suites.runner import explain
    from bakeoff.suites.runner import run as measure

    catalog = load(plugins)
    show_problems(catalog.problems)
    given |= {"preset": preset, "results": results, "catalog": catalog}
    if explaining:
        click.echo(_explained(explain(suites, **given)))
        return
    bar = Bar()
    try:
        with bar:
            measure(
                suites,
                memory_limit=limit,
                timeout=timeout,
                workers=workers,
                progress=bar,
                **given,
            )
    except KeyboardInterrupt:
        click.echo(
            f"\nStopped. Everything measured so far is in {results}; the same command goes on "
            "from there.",
            err=True,
        )
        sys.exit(130)
    summary = bar.summary
    if "claims" in suites:
        click.echo(table_of(results, "claims"))
    click.echo(_told(summary, results))
    bad = {status: n for status, n in summary.statuses.items() if status in failing}
    if bad:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(bad.items()))
        click.echo(f"Failing because of --fail-on: {counts}.", err=True)
        sys.exit(1)


class Bar:
    """Shows what runs, how many cells are left and about how long that takes."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from bakeoff.suites.progress import Summary

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.fields[suite]:<8}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[what]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, suite="planning", what="")
        self._told: set[str] = set()
        self.summary = Summary()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, planned: int, stored: int) -> None:
        """So many cells are planned, and so many of them are stored already."""
        if stored:
            self._console.print(f"{stored} of {planned} cells are stored already.")
        self._progress.start()
        self._progress.reset(self._task, total=planned - stored, suite="", what="")

    def running(self, cell: Cell) -> None:
        """This cell is being measured."""
        case = cell.case
        where = " ".join(str(p) for p in (case.pattern, f"N={case.seq_len}", case.dtype) if p)
        # The other columns take some 50 characters; rich would squeeze them for a long text.
        what = f"{cell.label} {where}"[: max(10, self._console.width - 52)]
        if not self._console.is_terminal and cell.suite not in self._told:
            # Without a terminal there is no bar: a line a suite shows that it goes on. Cells of
            # two suites may run side by side.
            self._console.print(f"{cell.suite} …")
        self._told.add(cell.suite)
        self._progress.update(self._task, suite=cell.suite, what=what)

    def finished(self, cell: Cell, records: Sequence[Record]) -> None:
        """This cell is stored."""
        self._progress.advance(self._task)

    def ended(self, summary: Summary) -> None:
        """The run came to its end."""
        self.summary = summary


def _swept(options: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    swept = {}
    for option in options:
        name, equals, values = option.partition("=")
        if not equals or not values:
            raise click.UsageError(f"--option: got {option!r}, expected NAME=VALUE,…")
        swept[name.strip()] = tuple(_plain(value.strip()) for value in values.split(","))
    return swept


def _plain(text: str) -> Any:
    """An integer, a number, a truth value, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for of in (int, float):
        try:
            return of(text)
        except ValueError:
            continue
    return text


def _part(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.strip().isdecimal() and count.strip().isdecimal()):
        raise click.UsageError(f"--shard: got {text!r}, expected I/N such as 1/4")
    return int(index), int(count)


def _explained(explanations: Sequence[Explanation]) -> str:
    """For each reason how many cells it holds for, and of which forwards."""
    reasons: dict[str, dict[str, int]] = {}
    for one in explanations:
        if one.measures:
            label = f"{one.cell.suite} {one.cell.label}"
            labels = reasons.setdefault(one.reason, {})
            labels[label] = labels.get(label, 0) + 1
    measured = sum(one.measures for one in explanations)
    stored = len(explanations) - measured
    lines = [
        f"{measured} of {len(explanations)} cells would be measured, {stored} are stored already."
    ]
    for reason, labels in sorted(reasons.items(), key=lambda item: -sum(item[1].values())):
        count = sum(labels.values())
        lines.append(f"\n{count} cell{'' if count == 1 else 's'}: {reason}")
        shown = [f"  {label} ({n})" for label, n in sorted(labels.items())]
        lines += shown[:MOST_LABELS]
        if len(shown) > MOST_LABELS:
            lines.append(f"  and {len(shown) - MOST_LABELS} more")
    return "\n".join(lines)


def _told(summary: Summary, results: Path) -> str:
    measured = summary.planned - summary.stored
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    lines = [f"{measured} cells measured in {summary.seconds:.0f} s: {counts or 'nothing new'}."]
    if measured:
        share = 100 * (1 - summary.measuring / summary.available)
        lines.append(f"{share:.0f}% of that time was not measuring.")
    if summary.stored:
        lines.append(f"{summary.stored} cells were stored already.")
    lines.append(f"Results: {results}. See them with `bakeoff report`.")
    return "\n".join(lines)
