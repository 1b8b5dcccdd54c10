"""What the README shows, run as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import bakeoff

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLUGIN, FROM_PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CONSOLE = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
INSTALL = [line for line in CONSOLE if line.startswith("python -m pip")]
COMMANDS = [line for line in CONSOLE if line.startswith("bakeoff ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would type: with the plugin, and results to report on."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "cosine.py").write_text(PLUGIN)
    run(folder, "bakeoff run --suite memory --variant relu --seq-len 32")
    return folder


def run(folder: Path, command: str) -> str:
    """What a command of the README prints."""
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_line_is_known() -> None:
    assert set(CONSOLE) == {*INSTALL, *COMMANDS}
    assert len(INSTALL) == 2


def test_what_ci_runs_is_what_the_readme_says() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert INSTALL[1] in script.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_command(folder: Path, command: str) -> None:
    told = run(folder, command)
    if "cosine.py" in command or "scaled_cosine" in command:
        assert "scaled_cosine" in told or command.startswith("bakeoff run")


@pytest.mark.slow
def test_the_main_job(folder: Path) -> None:
    for part in INSTALL[0].split(" && ")[1:]:
        told = run(folder, part)
    for name in ("scaled_dot_product:sdpa", "relu:torch", "residual:reference"):
        assert name in told


def test_the_smallest_plugin(folder: Path) -> None:
    assert len(PLUGIN.splitlines()) <= 25
    catalog = bakeoff.load([folder / "cosine.py"], entry_points=False, pyproject=False)
    assert catalog.problems == ()
    metadata = catalog["scaled_cosine"].metadata
    for field in ("title", "summary", "formula", "strengths", "weaknesses", "use_when", "tags"):
        assert getattr(metadata, field)
    assert metadata.paper


def test_from_python(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FROM_PYTHON], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size([2, 4, 64, 32])" in done.stdout
    assert "scaled_cosine" in done.stdout


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
