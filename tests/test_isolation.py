"""Whatever a plugin does becomes a typed row, costs only itself, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import faulty
import pandas as pd
import pytest
from plugins import changed, write
from processes import processes_in, until

import bakeoff

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are enforced on Linux")
EXPECTED = {name: (fault.status, fault.reason) for name, fault in faulty.FAULTS.items()}
EXPECTED |= {name: (status, reason) for name, (_, status, reason) in faulty.OTHERS.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """One race of everything that misbehaves, and one rival that does not."""
    folder = tmp_path_factory.mktemp("faults")
    before = Path.cwd()
    os.chdir(folder)
    try:
        frame = bakeoff.run(
            "speed", results="faults.sqlite", plugins=[faulty.__file__], patterns="self",
            variants=("dot_product", *(f"faulty_{name}" for name in EXPECTED)), seq_lens=64,
            directions="forward", budget=0.2, timeout=faulty.TIMEOUT, memory_limit=4 * 2**30,
        ).to_pandas()  # fmt: skip
        frame.attrs["left"] = processes_in(folder)
    finally:
        os.chdir(before)
    return frame


@linux
@pytest.mark.parametrize("what", EXPECTED)
def test_a_fault_becomes_a_row(results: pd.DataFrame, what: str) -> None:
    status, reason = EXPECTED[what]
    rows = results[results.variant == f"faulty_{what}"]
    assert list(rows.status) == [status]
    assert reason in rows.reason.iloc[0]


@linux
def test_its_rivals_are_measured_all_the_same(results: pd.DataFrame) -> None:
    rivals = results[(results.variant == "dot_product") & (results.metric == "ratio")]
    assert list(rivals.status) == ["ok", "ok"]
    assert rivals.value.notna().all()


@linux
def test_nothing_survives_the_end(results: pd.DataFrame) -> None:
    assert results.attrs["left"] == []


IMPORTS: dict[str, tuple[str, str]] = {
    "a thread": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), name='mine', daemon=True).start()",
        "the threads that run: it started mine",
    ),
    "a handler": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
        "the handler of SIGINT",
    ),
    "the dtype": ("torch.set_default_dtype(torch.float64)", "torch.get_default_dtype()"),
    "the seed": ("torch.manual_seed(3)", "the state of torch's global random generator"),
    "threads": ("torch.set_num_threads(3)", "torch.get_num_threads()"),
    "gradients": ("torch.set_grad_enabled(False)", "torch.is_grad_enabled()"),
    "determinism": (
        "torch.use_deterministic_algorithms(True)",
        "torch's deterministic algorithms",
    ),
}


@pytest.mark.parametrize("what", IMPORTS)
def test_what_a_plugin_changes_at_import_is_set_back_and_told(tmp_path: Path, what: str) -> None:
    import torch

    line, told = IMPORTS[what]
    plugin = write(tmp_path, "unclean.py", changed(("import torch\n", f"import torch\n{line}\n")))
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    state, handler = torch.get_rng_state(), signal.getsignal(signal.SIGINT)
    catalog = bakeoff.load([plugin], entry_points=False, pyproject=False)
    assert told in catalog.unclean["planted"]
    after = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    assert after == before
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGINT) == handler
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_unclean_plugin_is_a_row_and_is_not_loaded_beside_others(tmp_path: Path) -> None:
    line = "import torch\nopen('loaded', 'a').write('x'); torch.manual_seed(3)\n"
    plugin = write(tmp_path, "unclean.py", changed(("import torch\n", line)))
    done = cli(
        tmp_path, "run", "--suite", "memory", "--plugin", str(plugin), "--seq-len", "16",
        "--variant", "planted,dot_product", "--direction", "forward", "--pattern", "self",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "loaded").read_text() == "x", "by the main process alone"
    frame = bakeoff.open_results(tmp_path / "bakeoff-results.sqlite").to_pandas()
    planted = frame[frame.variant == "planted"]
    assert list(planted.status) == ["failed"]
    assert "changes what belongs to the whole process while it is loaded" in planted.reason.iloc[0]
    assert set(frame[frame.variant == "dot_product"].status) == {"ok"}


def test_a_plugins_thread_does_not_keep_the_command_from_ending(tmp_path: Path) -> None:
    line = (
        "import torch, threading, time\nthreading.Thread(target=time.sleep, args=(9999,)).start()"
    )
    plugin = write(tmp_path, "thread.py", changed(("import torch\n", f"{line}\n")))
    done = cli(tmp_path, "list", "--plugin", str(plugin), "--kind", "connection")
    assert done.returncode == 0
    assert "residual" in done.stdout


def cli(folder: Path, *arguments: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bakeoff", *arguments], cwd=folder, timeout=timeout, check=False,
        capture_output=True, text=True,
    )  # fmt: skip


SUITE = """
from bakeoff import hookimpl
from bakeoff.suites.product import expand
from bakeoff.suites.records import Record
from bakeoff.suites.spec import Job, Suite

def plan(catalog, selection):
    yield Job(tuple(expand("strange", 1, catalog, selection)))

def measure(job):
    for cell in job.cells:
        job.announce(cell)
        yield Record(cell, "thing", RESULT)

@hookimpl
def bakeoff_suites():
    yield Suite("strange", 1, "Returns strange things.", plan, measure)
"""


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("object()", "TypeError: Object of type object is not JSON serializable"),
        ("lambda: None", "TypeError: Object of type function is not JSON serializable"),
    ],
)
def test_a_result_that_cannot_be_sent_is_a_row(tmp_path: Path, result: str, reason: str) -> None:
    plugin = write(tmp_path, "strange.py", SUITE.replace("RESULT", result))
    given: dict[str, Any] = {"variants": "relu", "seq_lens": 16, "directions": "forward"}
    results = bakeoff.run("strange", results=tmp_path / "r.sqlite", plugins=[plugin], **given)
    frame = results.to_pandas()
    assert set(frame.status) == {"failed"}
    assert set(frame.reason) == {reason}


SLOW = changed(
    ("import torch\n", "import time\nimport torch\n"),
    (
        "causal=False, scale=None):\n",
        "causal=False, scale=None):\n    open('running', 'w').close(); time.sleep(1000)\n",
    ),
)


@linux
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_orphan_survives_a_signal(tmp_path: Path, sent: signal.Signals) -> None:
    write(tmp_path, "slow.py", SLOW)
    arguments = ("--plugin", "slow.py", "--variant", "relu,planted", "--suite", "memory")
    process = subprocess.Popen(
        [sys.executable, "-m", "bakeoff", "run", *arguments, "--workers", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: (tmp_path / "running").exists())
    assert len(processes_in(tmp_path)) == 3, "the run, one that serves, and one with the job"
    process.send_signal(sent)
    _, told = process.communicate(timeout=60.0)
    until(lambda: processes_in(tmp_path) == [])
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "Stopped. Everything measured so far is in bakeoff-results.sqlite" in told
        assert "the same command goes on from there" in told
        assert "Traceback" not in told
    # relu had been stored before planted ran, and nothing of it is lost.
    frame = bakeoff.open_results(tmp_path / "bakeoff-results.sqlite").to_pandas()
    assert set(frame.variant) == {"relu"}
    assert set(frame.status) == {"ok"}
