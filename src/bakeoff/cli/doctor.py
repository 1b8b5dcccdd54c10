"""``bakeoff doctor``: what this machine has, what is missing, what torch gets wrong here."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from bakeoff.cli.options import plugin_option

if TYPE_CHECKING:
    from bakeoff.suites.faults.fault import Diagnosis

#: Optional packages, with what they are for and the extra that installs them.
_OPTIONAL = {
    "pyarrow": ("report --format parquet", "parquet"),
    "transformers": ("bakeoff.swap and the suite applications", "transformers"),
    "PIL": ("detectors in the suite applications", "transformers"),
    "sklearn": ("digits in the suite applications", "transformers"),
    "entmax": ("a second definition of sparsemax and entmax15", "entmax"),
}


@click.command()
@plugin_option
def doctor(plugins: tuple[str, ...]) -> None:
    """Show the environment, devices, optional packages, faults of torch and problems of plugins.

    Each known fault of torch is tried on this machine, against an answer that is known to be
    right. Those that are present come first, with what they do and what helps.
    """
    from tabulate import tabulate

    from bakeoff import load
    from bakeoff.suites.environment import environment
    from bakeoff.suites.spec import suites_of

    shown = [(name, value) for name, value in environment().items() if value not in ("", {})]
    click.echo("Environment\n" + tabulate(shown, tablefmt="plain"))
    click.echo("\nDevices\n" + tabulate(list(_devices()), tablefmt="plain"))
    click.echo("\nLimits on jobs\n" + tabulate(list(_limits()), tablefmt="plain"))
    rows = [
        (name, "installed" if importlib.util.find_spec(name) else "missing", purpose,
         "" if importlib.util.find_spec(name) else f"pip install 'bakeoff[{extra}]'")
        for name, (purpose, extra) in _OPTIONAL.items()
    ]  # fmt: skip
    click.echo("\nOptional packages\n" + tabulate(rows, tablefmt="plain"))
    click.echo("\n" + "\n".join(_faults()))
    catalog = load(plugins)
    counts = {origin: list(catalog.origins.values()).count(origin) for origin in
              dict.fromkeys(catalog.origins.values())}  # fmt: skip
    foreign = {o: n for o, n in counts.items() if not o.startswith("bakeoff.")}
    built_in = sum(counts.values()) - sum(foreign.values())
    click.echo(f"\nPlugins\n{built_in} variants are built in; suites: "
               + ", ".join(suites_of(catalog)))  # fmt: skip
    for origin, count in foreign.items():
        click.echo(f"{origin}: {count} variant{'s' if count > 1 else ''}")
    if not catalog.problems:
        click.echo("No plugin has a problem.")
        return
    click.echo(f"\nProblems ({len(catalog.problems)})")
    for problem in catalog.problems:
        click.echo(f"- {problem}")
        if problem.traceback:
            click.echo(
                "".join(f"    {line}\n" for line in problem.traceback.splitlines()), nl=False
            )
    sys.exit(1)


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    yield "cpu", f"{os.cpu_count()} cores"
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield f"cuda:{i}", torch.cuda.get_device_name(i)
    else:
        yield "cuda", "none"


def _limits() -> Iterator[tuple[str, str]]:
    linux = sys.platform == "linux"
    yield "time", "enforced"
    yield "memory", "enforced" if linux else "not enforced on this system"
    yield "no orphans", "enforced" if linux else "not enforced if the run is killed"


def _faults() -> Iterator[str]:
    """The known faults of torch, those that it has here first."""
    import torch

    from bakeoff.suites.faults.fault import State
    from bakeoff.suites.faults.known import diagnoses

    found = diagnoses()
    yield f"Known faults of torch {torch.__version__} on this machine"
    for diagnosis in found:
        if diagnosis.state == State.PRESENT:
            yield from _present(diagnosis)
    for state in (State.ABSENT, State.NOT_APPLICABLE, State.UNDETERMINED):
        for diagnosis in found:
            if diagnosis.state != state:
                continue
            place = f"{diagnosis.fault.name} ({diagnosis.device})"
            yield f"{state}: {place}" + (f": {diagnosis.reason}" if diagnosis.reason else "")


def _present(diagnosis: Diagnosis) -> Iterator[str]:
    fault, answer = diagnosis.fault, diagnosis.answer
    assert answer is not None
    yield f"{diagnosis.state}: {fault.name} ({diagnosis.device})"
    yield f"    {fault.op}: {fault.summary}"
    yield f"    got {answer.got:.6g}, expected {answer.right:.6g} ({fault.unit})"
    yield f"    effect: {fault.consequence}"
    yield f"    workaround: {fault.workaround}"
    yield f"    report: {fault.report or 'none that we know of'}"
