"""The shape of the code: who imports whom, what is installed, and that every example runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bakeoff

ROOT = Path(__file__).resolve().parent.parent

#: For each folder what its files may import of ours.
ARROWS = {
    "registry": ("bakeoff.registry",),
    "plugins": ("bakeoff", "bakeoff.registry", "bakeoff.plugins"),
    "suites": ("bakeoff.registry", "bakeoff.suites"),
    "reports": (
        "bakeoff.registry",
        "bakeoff.reports",
        "bakeoff.suites.differences",
        "bakeoff.suites.metrics",
        "bakeoff.suites.records",
        "bakeoff.suites.store",
    ),
}
FILES = [path for folder in ARROWS for path in sorted((ROOT / folder).rglob("*.py"))]
OURS = [*FILES, *sorted((ROOT / "src" / "bakeoff").glob("*.py"))]
OURS += sorted((ROOT / "src" / "bakeoff" / "cli").glob("*.py"))
MODULES = ["bakeoff"] + [
    info.name
    for info in pkgutil.walk_packages(bakeoff.__path__, "bakeoff.")
    if info.name != "bakeoff.__main__"
]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """The level and the module of every import, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_arrows(path: Path) -> None:
    allowed = ARROWS[path.relative_to(ROOT).parts[0]]
    for _, module in imports(path):
        if module.partition(".")[0] == "bakeoff":
            assert any(
                module == name or (name != "bakeoff" and module.startswith(f"{name}."))
                for name in allowed
            ), module


@pytest.mark.parametrize("path", OURS, ids=shown)
def test_every_import_is_absolute_and_by_our_name(path: Path) -> None:
    for level, module in imports(path):
        assert level == 0, module
        assert module.partition(".")[0] not in ARROWS, module


@pytest.mark.parametrize("path", OURS, ids=shown)
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_face_is_light(tmp_path: Path) -> None:
    heavy = "{'torch', 'pandas', 'numpy', 'scipy', 'rich', 'tabulate', 'vl_convert'}"
    for statement in ("import bakeoff", "import bakeoff.cli", "from bakeoff import Attention"):
        script = f"{statement}\nimport sys; print(sorted({heavy} & sys.modules.keys()))"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == "[]\n"


def test_the_face_is_complete() -> None:
    for name in bakeoff.__all__:
        assert getattr(bakeoff, name) is not None
    assert set(dir(bakeoff)) == set(bakeoff.__all__)
    with pytest.raises(AttributeError, match="module 'bakeoff' has no attribute 'lod'"):
        bakeoff.lod  # noqa: B018


def imported(name: str) -> ModuleType:
    """A module of ours; two define classes on those of an extra."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == "transformers":
            pytest.skip("transformers is not installed: bakeoff[transformers]")
        raise


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = imported(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", [m for m in MODULES if not m.startswith("bakeoff.plugins.")])
def test_what_is_public_is_described(name: str) -> None:
    module = imported(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if callable(value) and getattr(value, "__module__", "").startswith("bakeoff."):
            assert value.__doc__, public


def test_only_bakeoff_lands_in_site_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(
        ".git", "*.egg-info", "__pycache__", "build", "dist", ".*cache"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    for what in ("--wheel", "--sdist"):
        subprocess.run(
            [sys.executable, "-m", "build", what, "--no-isolation", "-o", tmp_path, source],
            check=True,
            capture_output=True,
        )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "bakeoff",
        f"bakeoff-{bakeoff.__version__}.dist-info",
    }
    for needed in (
        "py.typed",
        "__main__.py",
        "registry/variants.py",
        "plugins/activations/relu.py",
        "suites/builtin/speed.py",
        "reports/web/page.css",
        "reports/web/charts.js",
        "cli/run.py",
        "templates/attention.py.txt",
    ):
        assert f"bakeoff/{needed}" in names, needed
    sources = {f"bakeoff/{shown(path)}" for path in FILES}
    assert sources <= set(names)


def test_a_wheel_works_where_the_source_is_not(tmp_path: Path) -> None:
    """Installed into a folder of its own, beside the dependencies of this environment."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(
        ".git", "*.egg-info", "__pycache__", "build", "dist", ".*cache"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, source], check=True, capture_output=True)
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import bakeoff; assert bakeoff.__file__.startswith(sys.path[0]), bakeoff.__file__\n"
        "print(len(bakeoff.load(entry_points=False)), bakeoff.load(entry_points=False).problems)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(bakeoff.load(entry_points=False))} ()\n"
