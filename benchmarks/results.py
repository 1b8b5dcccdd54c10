"""What docs/results.md shows: run it, and write the document.

``python benchmarks/results.py FOLDER [NAME…]`` runs what is named, or all, one results file each in
FOLDER, and writes the document from what lies there. A run that was stopped goes on.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bakeoff

DOCUMENT = Path(__file__).parents[1] / "docs" / "results.md"
INTRODUCTION = """\
# What came out

Results of bakeoff on two cores of a CPU, each from the one command above it, as its report prints
them; `benchmarks/results.py` ran the commands and wrote this page. They are results of this machine
and of small models: a claim that is timed may come out otherwise elsewhere, and the sizes are those
of the presets. The other core was busy meanwhile, so that the wall times are upper bounds.
"""


@dataclass(frozen=True)
class Shown:
    """A section of the document.

    Args:
        title: Its heading.
        arguments: Of ``bakeoff``.
        picture: The beginning of the title of the figure that stands with it; empty for none.
    """

    title: str
    arguments: tuple[str, ...]
    picture: str = ""

    @property
    def command(self) -> tuple[str, ...]:
        """As a user types it."""
        return ("bakeoff", *self.arguments)

    @property
    def measures(self) -> bool:
        """Whether it fills a results file; else what it says is shown."""
        return self.arguments[0] == "run"


_LEARNING = ("run", "--suite", "learning", "--preset", "standard", "--task")
SHOWN = {
    "claims": Shown("The textbook, put to the test", ("run", "--suite", "claims")),
    "mqar": Shown("Recall by every attention", (*_LEARNING, "mqar", "--kind", "attention")),
    "depth": Shown(
        "Depth, with and without a skip",
        (*_LEARNING, "digits", "--kind", "connection", "--variant", "plain,residual"),
        picture="Learning",
    ),
    "applications": Shown("Inside the models of the textbook", ("run", "--suite", "applications")),
    "initialisation": Shown("How to initialise", ("initialisation",)),
}


def run(name: str, folder: Path) -> None:
    """Measure what is missing; what the command says goes into a file beside the results."""
    shown, command = SHOWN[name], list(SHOWN[name].command)
    if shown.measures:
        command += ["--results", str(folder / f"{name}.sqlite")]
    print(" ".join(command), flush=True)
    # A run that goes on adds to what it said before; a table takes the place of the one before.
    mode = "a" if shown.measures else "w"
    with (folder / f"{name}.txt").open(mode, encoding="utf-8") as said:
        started = time.monotonic()
        subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, check=True)
        print(f"Took {time.monotonic() - started:.0f} s.")


def section(name: str, folder: Path) -> Iterator[str]:
    """The command, how long it took, the picture and the tables."""
    shown, said = SHOWN[name], (folder / f"{name}.txt").read_text(encoding="utf-8")
    yield f"## {shown.title}"
    yield f"```console\n$ {' '.join(shown.command)}\n```"
    if not shown.measures:
        yield f"```text\n{said.strip()}\n```"
        return
    report = bakeoff.report(str(folder / f"{name}.sqlite"))
    yield took(said)
    if shown.picture:
        drawing = next(d for d in report.figures() if d.title.startswith(shown.picture))
        path = DOCUMENT.with_name(f"{DOCUMENT.stem}_{name}.svg")
        path.write_text(drawing.svg(), encoding="utf-8")
        yield f"![{drawing.title}]({path.name})"
    yield deeper(report.markdown())


def took(said: str) -> str:
    """How much was measured in what time, in the words of the run."""
    parts = re.findall(r"^[1-9]\d* cells? measured in .*$", said, re.MULTILINE)
    assert parts, f"the run did not end: {said[-200:]}"
    return " ".join(parts)


def deeper(report: str) -> str:
    """The report without its title and file, its headings one level further down."""
    body = report.split("\n\n", 2)[2]
    return re.sub(r"^#", "##", body, flags=re.MULTILINE).strip()


def write(folder: Path) -> None:
    """The document, of all that lies in the folder."""
    found = [name for name in SHOWN if (folder / f"{name}.txt").is_file()]
    parts = [part for name in found for part in section(name, folder)]
    DOCUMENT.write_text("\n\n".join((INTRODUCTION.strip(), *parts)) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments[1:] or SHOWN:
        run(name, folder)
    write(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
