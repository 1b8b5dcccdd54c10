"""``bakeoff new``: what it writes is right at once, and clean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_check import wrong_in

import bakeoff
from bakeoff.checking import jobs_of
from bakeoff.cli import cli
from bakeoff.registry.errors import UsageError
from bakeoff.suites.spec import suites_of

KINDS = ("activation", "attention", "connection")


def new(*arguments: object) -> str:
    """What the command prints."""
    result = CliRunner().invoke(cli, ["new", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", KINDS)
def test_every_template_is_right(kind: str, tmp_path: Path) -> None:
    """The certificate's cells at one dtype, in this process."""
    told = new(kind, "my_variant", "--output", tmp_path)
    assert f"Next: bakeoff check {tmp_path / 'my_variant.py'} && pytest {tmp_path}" in told
    file = tmp_path / "my_variant.py"
    catalog = bakeoff.load([file], entry_points=False, pyproject=False)
    assert not catalog.problems
    assert catalog["my_variant"].kind == kind
    assert len(catalog["my_variant"].forwards) == 2
    for job in jobs_of(catalog, "my_variant", dtypes="float32", inputs="normal"):
        suite = suites_of(catalog, [job.suite])[job.suite]
        assert wrong_in(list(suite.measure(_with(job, catalog)))) == {}


def _with(job: object, catalog: bakeoff.Catalog) -> object:
    from dataclasses import replace

    return replace(job, catalog=catalog)  # type: ignore[type-var]


@pytest.mark.parametrize("package", [(), ("--package",)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_clean(kind: str, package: tuple[str, ...], tmp_path: Path) -> None:
    """To ruff as it comes, with its usual width and the usual rules beside."""
    new(kind, "my_variant", *package, "--output", tmp_path)
    check = ["check", "--isolated", "--select", "E,F,W,I,B,UP,C4,SIM,PT", tmp_path]
    for arguments in (check, ["format", "--isolated", "--check", tmp_path]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *map(str, arguments)],
            cwd=tmp_path,  # from here ours would pass for a module of the same project
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_a_package_has_all_it_needs(tmp_path: Path) -> None:
    told = new("attention", "my_variant", "--package", "--output", tmp_path)
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {
        "my-variant/pyproject.toml",
        "my-variant/README.md",
        "my-variant/src/my_variant/__init__.py",
        "my-variant/tests/test_my_variant.py",
    }
    assert all(f"Wrote {tmp_path / path}." in told for path in written)
    assert "python -m pip install -e . && bakeoff check my_variant && pytest" in told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MyVariant", "got 'MyVariant', expected lower_snake_case, such as myvariant"),
        ("my-variant", "expected lower_snake_case, such as my_variant"),
        ("3d", "got '3d', expected lower_snake_case, such as my_variant"),
        ("lambda", "got 'lambda', expected lower_snake_case"),
        ("relu", "'relu' is already the activation relu from bakeoff.plugins.activations.relu"),
        ("swish", "'swish' is already the activation silu from"),
    ],
)
def test_names_that_cannot_be(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        new("activation", name, "--output", tmp_path)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "test_my_variant.py").write_text("mine")
    with pytest.raises(UsageError, match="it is there already and was not touched"):
        new("activation", "my_variant", "--output", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_my_variant.py"]
    assert (tmp_path / "test_my_variant.py").read_text() == "mine"


def test_a_module_that_is_installed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a module called 'json' is installed already"):
        new("activation", "json", "--package", "--output", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli, ["new", "activation", "mine", "--output", f"{tmp_path}/file"])
    assert result.exit_code == 2
    assert "is a file" in result.output
