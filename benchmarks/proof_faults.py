"""Faults and their rows, and kills at random moments: what is lost.

    python benchmarks/proof_faults.py [faults] [kills] [--write]

The kills take some ten minutes.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from document import publish, table

import bakeoff
from bakeoff.suites.records import AXES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import faulty
from processes import processes_in

KILLS = 100
#: Told of each record once it is stored.
WITNESS = """
import json
from bakeoff import hookimpl

@hookimpl
def bakeoff_record(record):
    with open("told.txt", "a") as file:
        print(json.dumps([*record.cell.axes().values(), record.metric]), file=file)
"""
WHAT = ("--suite", "accuracy,gradient", "--kind", "activation", "--plugin", "witness.py")


def faults() -> None:
    """One race in which all misbehave but one."""
    names = [*faulty.FAULTS, *faulty.OTHERS]
    with tempfile.TemporaryDirectory() as folder:
        frame = bakeoff.run(
            "speed", results=Path(folder) / "faults.sqlite", plugins=[faulty.__file__],
            variants=("dot_product", *(f"faulty_{name}" for name in names)), seq_lens=64,
            directions="forward", patterns="self", budget=0.2, timeout=faulty.TIMEOUT,
            memory_limit=4 * 2**30,
        ).to_pandas()  # fmt: skip
    rows = []
    for name in names:
        (row,) = frame[frame.variant == f"faulty_{name}"].itertuples()
        rows.append((name.replace("_", " "), row.status, _short(row.reason)))
    rivals = frame[(frame.variant == "dot_product") & (frame.metric == "time")]
    told = (
        f"The rival of them all: {len(rivals)} forwards, {', '.join(sorted(set(rivals.status)))}."
    )
    publish("faults", table(("what a forward does", "status", "reason"), rows), told)


def _short(reason: str, width: int = 100) -> str:
    text = reason.replace("|", "\\|").replace("<", "\\<")
    return text if len(text) <= width else text[: width - 1] + "…"


def kills() -> None:
    """Kill runs at random moments until enough are killed; each goes on where it stopped."""
    generator = random.Random(0)
    lost, acknowledgements, killed, ended, differing, orphans = 0, 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "witness.py").write_text(WITNESS)
        _run(home, "whole.sqlite", None)
        whole = _stored(home / "whole.sqlite")
        while killed < KILLS:
            path = home / f"{ended}.sqlite"
            (home / "told.txt").write_text("")
            while killed < KILLS and _run(home, path.name, generator.uniform(2.0, 8.0)):
                killed += 1
                stored = _stored(path)
                told = (home / "told.txt").read_text()
                # The last line may be cut off by the kill.
                acknowledged = set(told[: told.rfind("\n") + 1].splitlines())
                lost += len(acknowledged - stored)
                acknowledgements += len(acknowledged)
                time.sleep(2.0)
                orphans += len(processes_in(home))
            _run(home, path.name, None)
            ended += 1
            differing += _stored(path) != whole
    rows = [
        ("SIGKILLs at random moments, 2 to 8 s after a start", killed),
        ("runs that they cut into pieces", ended),
        ("records of a whole run", len(whole)),
        ("records acknowledged before a kill", acknowledgements),
        ("of these lost", lost),
        ("runs that ended with other records than one that was not killed", differing),
        ("processes left over, 2 s after a kill", orphans),
    ]
    publish("kills", table(("", ""), rows))


def _run(home: Path, name: str, kill_after: float | None) -> bool:
    """Whether the run was killed; it was not where it ended first."""
    command = [sys.executable, "-m", "bakeoff", "run", *WHAT, "--results", name]
    process = subprocess.Popen(
        command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def _stored(path: Path) -> set[str]:
    """The records in the words of the witness."""
    try:
        results = bakeoff.open_results(path)
    except bakeoff.BakeoffError:
        return set()
    with results.reading() as db:
        rows = db.execute(
            f"SELECT {', '.join(AXES)}, metric FROM cells JOIN records ON records.cell = cells.id"
        ).fetchall()
    return set(map(json.dumps, rows))


if __name__ == "__main__":
    parts = {"faults": faults, "kills": kills}
    for part in [argument for argument in sys.argv[1:] if argument in parts] or parts:
        parts[part]()
