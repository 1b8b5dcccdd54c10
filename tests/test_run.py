"""Runs: complete, continued, killed; and jobs that end their process in every way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from plugins import changed, write
from processes import processes_in, until

import bakeoff
from bakeoff.suites.progress import Summary
from bakeoff.suites.records import AXES, Cell, Record

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are enforced on Linux")


class Seen:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.begun: tuple[int, int] = (0, 0)
        self.cells: list[Cell] = []
        self.summary = Summary()

    def begin(self, planned: int, stored: int) -> None:
        self.begun = (planned, stored)

    def running(self, cell: Cell) -> None:
        pass

    def finished(self, cell: Cell, records: Sequence[Record]) -> None:
        self.cells.append(cell)

    def ended(self, summary: Summary) -> None:
        self.summary = summary


def measured(path: Path, **given: Any) -> tuple[pd.DataFrame, Seen]:
    """Run a little, and return what is stored and what was seen."""
    seen = Seen()
    given = {"suites": "memory", "variants": "relu", "seq_lens": 16, **given}
    results = bakeoff.run(given.pop("suites"), results=path, progress=seen, **given)
    return results.to_pandas(), seen


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results.sqlite"


def test_a_run_is_complete_and_the_next_measures_nothing(path: Path) -> None:
    frame, seen = measured(path)
    assert seen.begun == (4, 0)  # 2 forwards × 2 directions
    assert len(seen.cells) == 4
    assert set(frame.status) == {"ok"}
    assert set(AXES) <= set(frame)
    again, seen = measured(path)
    assert seen.begun == (4, 4)
    assert seen.cells == []
    pd.testing.assert_frame_equal(frame, again)


def test_no_two_cells_share_a_row(path: Path) -> None:
    frame, _ = measured(path, suites=("accuracy", "memory", "speed"), budget=0.01)
    assert not frame.duplicated([*AXES, "metric"]).any()


def test_only_what_is_new_is_measured(path: Path) -> None:
    measured(path)
    _, seen = measured(path, variants=("relu", "tanh"))
    assert {cell.variant for cell in seen.cells} == {"tanh"}
    _, seen = measured(path, seq_lens=(16, 32))
    assert {cell.case.seq_len for cell in seen.cells} == {32}


def test_what_changed_is_measured_again(path: Path) -> None:
    plugin = write(path.parent, "mine.py")
    given = {"plugins": [plugin], "variants": ("planted", "dot_product"), "directions": "forward"}
    measured(path, **given)
    assert measured(path, **given)[1].cells == []
    write(path.parent, "mine.py", changed(("* slope", "* slope * 1.0")))
    frame, seen = measured(path, **given)
    assert {cell.variant for cell in seen.cells} == {"planted"}
    assert (frame.variant == "planted").sum() == 1


def test_inputs_from_a_file(path: Path) -> None:
    file = path.with_name("inputs.pt")
    given = {"inputs": str(file), "batches": 1, "features": 8}
    torch.save({"x": torch.ones(1, 16, 8)}, file)
    frame, seen = measured(path, **given)
    assert set(frame.status) == {"ok"}
    assert measured(path, **given)[1].cells == []
    torch.save({"x": torch.zeros(1, 16, 8)}, file)
    assert len(measured(path, **given)[1].cells) == len(seen.cells)
    frame, _ = measured(path, **{**given, "seq_lens": 17})
    told = set(frame[frame.seq_len == 17].reason)
    assert told == {
        "UsageError: inputs: " + f"{file}: x: got (1, 16, 8), expected at least (1, 17, 8)"
    }


def test_another_environment_is_measured_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.suites import environment, identity, runner

    measured(path)
    other = {**environment.environment(), "cpu": "another"}
    for module in (runner, identity):
        monkeypatch.setattr(module, "environment", lambda *_: other)
    frame, seen = measured(path)
    assert len(seen.cells) == 4
    assert frame.environment.nunique() == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"suites": "memry"}, "no suite is called 'memry'; did you mean memory?"),
        ({"preset": "quik"}, "no preset is called 'quik'; did you mean quick?"),
        ({"seqlens": 3}, "no axis is called 'seqlens'; did you mean seq_lens?"),
        ({"variants": "relo"}, "no variant is called 'relo'; did you mean relu?"),
        ({"patterns": "selv"}, "patterns: got 'selv', expected one of"),
        ({"batches": -1}, "batches: got -1, expected integers of at least 1"),
        ({"suites": "memory", "directions": "backward"}, "nothing is selected: no suite has a"),
    ],
)
def test_wrong_arguments(path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(bakeoff.BakeoffError) as caught:
        measured(path, **given)
    assert message in str(caught.value)
    assert not path.exists()


def test_a_notebooks_variant_reaches_the_workers(path: Path) -> None:
    from test_catalog import activation

    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(activation())
    frame, _ = measured(path, catalog=catalog, variants="planted")
    assert set(frame.status) == {"ok"}


def test_sweeping_an_option(path: Path) -> None:
    frame, _ = measured(
        path, variants="sliding_window", forwards="chunked", directions="forward",
        patterns="self", options={"window": (2, 8)},
    )  # fmt: skip
    assert set(frame.options) == {'{"window":2}', '{"window":8}'}


HOOKS = """
from pathlib import Path
from bakeoff import hookimpl

@hookimpl
def bakeoff_record(record):
    with open("seen.txt", "a") as file:
        print(record.metric, file=file)
"""


def test_the_hook_sees_every_record(path: Path) -> None:
    frame, _ = measured(path, plugins=[write(path.parent, "hooks.py", HOOKS)])
    told = (path.parent / "seen.txt").read_text().split()
    assert sorted(told) == sorted(frame.metric)


def test_a_hook_that_fails_is_told_once(path: Path) -> None:
    source = HOOKS.split("    with")[0] + "    raise ValueError('no')\n"
    plugin = write(path.parent, "hooks.py", source)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        frame, _ = measured(path, plugins=[plugin])
    assert len(frame) > 1
    assert [str(w.message) for w in told] == [
        "hooks.py: bakeoff_record failed and is not called again: ValueError('no')"
    ]


@linux
def test_what_a_plugin_prints_or_computes_at_import_disturbs_nothing(path: Path) -> None:
    source = changed(
        ("import torch\n", "import os, sys\nimport torch\n"),
        (
            "\n\ndef reference",
            "\n\nprint('x' * 10**6); (torch.ones(300, 300) @ torch.ones(300, 300)).sum()\n"
            "w = torch.ones(64, requires_grad=True); (w * w).sum().backward()\n\n\ndef reference",
        ),
        ("causal=False, scale=None):\n", "causal=False, scale=None):\n    os.write(1, b'{}')\n"),
    )
    plugin = write(path.parent, "loud.py", source)
    frame, _ = measured(path, plugins=[plugin], variants="planted")
    assert set(frame.status) == {"ok"}


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bakeoff", "run", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stored(path: Path) -> int:
    try:
        return len(bakeoff.open_results(path))
    except bakeoff.BakeoffError:
        return 0


@linux
@pytest.mark.parametrize("cells", [1, 12])
def test_a_killed_run_goes_on_to_the_same_cells(path: Path, cells: int) -> None:
    variants = ("relu", "gelu", "silu", "elu")
    arguments = ("--suite", "accuracy", "--variant", ",".join(variants), "--dtype", "float32")
    process = start(path.parent, *arguments, "--results", str(path))
    while stored(path) < 4 * cells:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = bakeoff.open_results(path).to_pandas()
    until(lambda: processes_in(path.parent) == [])
    given: dict[str, Any] = {"variants": variants, "dtypes": "float32"}
    after = bakeoff.run("accuracy", results=path, **given).to_pandas()
    whole = bakeoff.run("accuracy", results=path.with_name("other.sqlite"), **given).to_pandas()
    rows = [*AXES, "metric", "status"]
    assert 0 < len(before) < len(after)
    assert as_set(before, rows) <= as_set(after, rows) == as_set(whole, rows)


def as_set(frame: pd.DataFrame, columns: list[str]) -> set[tuple[str, ...]]:
    return set(map(tuple, frame[columns].astype(str).values.tolist()))
