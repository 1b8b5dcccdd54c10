"""Jobs that time nothing run side by side, and change nothing by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugins import write

import bakeoff
from bakeoff.suites.records import AXES
from bakeoff.suites.runner import _crew_size

#: Two jobs that leave a note each, and wait for the note of the other.
MEETING = """
import os, time
from pathlib import Path
from bakeoff import hookimpl
from bakeoff.suites.records import Record
from bakeoff.suites.product import expand
from bakeoff.suites.spec import Job, Suite

FOLDER = Path({folder!r})
PATIENCE = {patience}


def plan(catalog, selection):
    for cell in expand("meeting", 1, catalog, selection, directions=("forward",)):
        yield Job((cell,), untimed={untimed})


def measure(job):
    (cell,) = job.cells
    job.announce(cell)
    (FOLDER / cell.variant).touch()
    end = time.monotonic() + PATIENCE
    while len(list(FOLDER.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    met = len(list(FOLDER.iterdir())) >= 2
    if {dying} and cell.variant == "relu":
        os._exit(3)
    if not met:
        (FOLDER / cell.variant).unlink()
    yield Record(cell, "met", float(met))


@hookimpl
def bakeoff_suites():
    yield Suite("meeting", 1, "Whether jobs meet.", plan, measure)
"""


def meeting(
    tmp_path: Path, *, workers: int, untimed: bool = True, patience: float = 60, dying: bool = False
) -> dict[str, float | str]:
    """What each of two jobs says, by variant: whether it met the other, or its status."""
    (tmp_path / "notes").mkdir()
    source = MEETING.format(
        folder=str(tmp_path / "notes"), untimed=untimed, patience=patience, dying=dying
    )
    plugin = write(tmp_path, "meeting.py", source)
    results = bakeoff.run(
        "meeting",
        plugins=[plugin],
        variants=("relu", "tanh"),
        forwards="torch",
        seq_lens=16,
        workers=workers,
        results=tmp_path / "results.sqlite",
    )
    frame = results.to_pandas()
    values = frame.value.where(frame.status == "ok", frame.status)
    return dict(zip(frame.variant, values, strict=True))


def test_untimed_jobs_meet(tmp_path: Path) -> None:
    assert meeting(tmp_path, workers=2) == {"relu": 1.0, "tanh": 1.0}


@pytest.mark.parametrize(("workers", "untimed"), [(1, True), (2, False)])
def test_others_have_the_machine_for_themselves(
    tmp_path: Path, workers: int, untimed: bool
) -> None:
    found = meeting(tmp_path, workers=workers, untimed=untimed, patience=0.5)
    assert found == {"relu": 0.0, "tanh": 0.0}


def test_one_that_dies_takes_no_other_along(tmp_path: Path) -> None:
    assert meeting(tmp_path, workers=2, dying=True) == {"relu": "crashed", "tanh": 1.0}


def test_the_results_are_those_of_one_worker(tmp_path: Path) -> None:
    given = {"variants": ("relu", "tanh", "elu"), "seq_lens": 16, "features": 8}
    frames = [
        bakeoff.run(("gradient", "memory"), results=tmp_path / f"{n}.sqlite", workers=n, **given)
        .to_pandas()
        .sort_values([*AXES, "metric"], ignore_index=True)
        for n in (1, 3)
    ]
    one, three = (f[[*AXES, "metric", "value", "status", "reason"]] for f in frames)
    assert len(one) > 20
    assert one.equals(three)


def test_how_many(tmp_path: Path) -> None:
    assert _crew_size(None) >= 1
    with pytest.raises(bakeoff.UsageError, match="workers: got 0, expected a number of at least 1"):
        bakeoff.run("memory", variants="relu", workers=0, results=tmp_path / "results.sqlite")
