"""The example package: built as a wheel, installed beside a wheel of ours, found and checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import bakeoff

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
HOME = EXAMPLES / "bakeoff-smooth"
IGNORED = shutil.ignore_patterns(
    ".git", "*.egg-info", "__pycache__", "build", "dist", ".*cache", "tests", "docs"
)


class Environment:
    """A fresh environment, in which only the dependencies of this one are found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "venv"
        venv.create(self.folder, with_pip=False)
        home = sysconfig.get_path("purelib", vars={"base": str(self.folder)})
        # What stands there comes after what is installed in the environment itself.
        (Path(home) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.home = home

    def install(self, source: Path, folder: Path) -> None:
        """Build a wheel of a copy of the source, and install it."""
        copy = folder / f"source-{source.name}"
        shutil.copytree(source, copy, symlinks=True, ignore=IGNORED)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, copy]
        subprocess.run(build, check=True, capture_output=True)
        wheels = sorted(folder.glob("*.whl"), key=os.path.getmtime)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", self.home]
        subprocess.run([*pip, wheels[-1]], check=True, capture_output=True)

    def run(self, *arguments: str, cwd: Path) -> str:
        """What Python prints there."""
        done = subprocess.run(
            [self.folder / "bin" / "python", *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=600,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With bakeoff, and the example."""
    folder = tmp_path_factory.mktemp("environment")
    made = Environment(folder)
    for source in (ROOT, HOME):
        made.install(source, folder)
    return made


@pytest.mark.slow
def test_it_is_found_and_right(environment: Environment, tmp_path: Path) -> None:
    where = "import bakeoff; print(bakeoff.__file__)"
    assert environment.run("-c", where, cwd=tmp_path).startswith(str(environment.home))
    listed = json.loads(environment.run("-m", "bakeoff", "list", "--json", cwd=tmp_path))
    origins = {entry["name"]: entry["origin"] for entry in listed}
    for name in ("gaussian_attention", "smelu"):
        assert origins[name] == f"entry point {name!r} of bakeoff-smooth"
        told = environment.run("-m", "bakeoff", "check", name, cwd=tmp_path)
        assert told.startswith(f"{name}: right\n")


@pytest.mark.slow
def test_its_own_tests_pass(environment: Environment, tmp_path: Path) -> None:
    """Each check is a test there, through the pytest plugin that is installed."""
    shutil.copytree(HOME / "tests", tmp_path / "tests")
    shutil.copy(HOME / "pyproject.toml", tmp_path)
    told = environment.run("-m", "pytest", "-v", "-p", "no:cacheprovider", cwd=tmp_path)
    assert "tests/test_variants.py::test_smelu_meets_its_pieces PASSED" in told
    assert "bakeoff::gaussian_attention:fused::no_future_leak PASSED" in told
    assert "bakeoff::smelu:clamped::verdict PASSED" in told


@pytest.mark.slow
def test_a_new_package_is_right_at_once(environment: Environment, tmp_path: Path) -> None:
    """From ``bakeoff new`` to its own tests, as its README says."""
    environment.run("-m", "bakeoff", "new", "activation", "my_variant", "--package", cwd=tmp_path)
    home = tmp_path / "my-variant"
    environment.install(home, tmp_path)
    told = environment.run("-m", "pytest", "-v", "-p", "no:cacheprovider", cwd=home)
    assert "bakeoff::my_variant:hypot::verdict PASSED" in told


def test_the_example_is_a_plugin_like_any_other() -> None:
    files = [path for path in (HOME / "src" / "bakeoff_smooth").glob("*.py") if path.stem[0] != "_"]
    catalog = bakeoff.load(files, entry_points=False, pyproject=False)
    assert catalog.problems == ()
    for name in ("gaussian_attention", "smelu"):
        assert len(catalog[name].forwards) == 2
        assert catalog[name].metadata.paper
