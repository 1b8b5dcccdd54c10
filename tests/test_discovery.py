"""Where plugins come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugins import changed, write

import bakeoff


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(*paths: str | Path) -> bakeoff.Catalog:
    return bakeoff.load(list(paths), entry_points=False, pyproject=False)


def named(name: str) -> str:
    return changed(('"planted"', f'"{name}"'))


def test_paths(folder: Path) -> None:
    write(folder, "one.py", named("one"))
    (folder / "below").mkdir()
    write(folder / "below", "two.py", named("two"))
    found = load("one.py", folder / "below" / "two.py")
    assert (found.origins["one"], found.origins["two"]) == ("one.py", "below/two.py")


def test_a_file_named_twice_is_loaded_once(folder: Path) -> None:
    write(folder, "one.py")
    assert load("one.py", folder / "one.py", "./one.py").problems == ()


def test_two_files_of_one_name(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        write(folder / name, "mine.py", named(name))
    assert {"one", "two"} <= set(load("one/mine.py", "two/mine.py"))


def test_an_edited_file_is_read_again(folder: Path) -> None:
    """Also where size and second are the same, which a cached compilation goes by."""
    write(folder, "mine.py", named("aaa"))
    assert "aaa" in load("mine.py")
    write(folder, "mine.py", named("bbb"))
    assert "bbb" in load("mine.py")
    assert not (folder / "__pycache__").exists()


@pytest.mark.parametrize("given", ["one.py", b"one.py", 3, [3]])
def test_what_is_no_list_of_paths(given: object) -> None:
    with pytest.raises(bakeoff.UsageError, match=r"plugins: got .*, expected"):
        bakeoff.load(given)  # type: ignore[arg-type]


def test_pyproject(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text('[tool.bakeoff]\nplugins = ["own/mine.py"]\n')
    (folder / "own").mkdir()
    write(folder / "own", "mine.py")
    below = folder / "deep" / "er"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = bakeoff.load(entry_points=False)
    assert "planted" in found
    assert "planted" not in bakeoff.load(entry_points=False, pyproject=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.bakeoff\n", "cannot be read: TOMLDecodeError"),
        ("[tool.bakeoff]\nplugins = 'x.py'\n", "plugins: got 'x.py', expected a list of paths"),
        ("[tool.bakeoff]\nplugins = [1]\n", "plugins: got [1], expected a list of paths"),
        ("[tool.bakeoff]\nplugin = []\n", "got 'plugin', expected a known key; did you mean plug"),
        ("[tool]\nbakeoff = 3\n", "bakeoff: got 3, expected a table"),
        ("[tool.bakeoff]\nplugins = ['no.py']\n", "import failed: FileNotFoundError"),
    ],
)
def test_a_wrong_pyproject(folder: Path, catalog: bakeoff.Catalog, text: str, message: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    found = bakeoff.load(entry_points=False)
    assert message in str(found.problems[0])
    assert list(found) == list(catalog)


def install(site: Path, package: str, entry_points: str) -> None:
    """What pip leaves behind of a package with these entry points."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bakeoff]\n{entry_points}\n")


def test_entry_points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    write(folder, "their_variants.py")
    install(folder, "their-package", "mine = their_variants\nbroken = no_such_module")
    found = bakeoff.load(pyproject=False)
    assert found.origins["planted"] == "entry point 'mine' of their-package"
    (problem,) = found.problems
    assert problem.origin == "entry point 'broken' of their-package"
    assert "ModuleNotFoundError" in problem.reason
    assert "planted" not in bakeoff.load(pyproject=False, entry_points=False)


def test_two_entry_points_of_one_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    write(folder, "theirs.py")
    install(folder, "theirs", "one = theirs\ntwo = theirs")
    assert bakeoff.load(pyproject=False).problems == ()


def test_loading_does_not_move_the_global_generator(folder: Path) -> None:
    import torch

    write(folder, "mine.py", changed(("torch.ones(1)", "torch.rand(1)")))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert load("mine.py").problems == ()
    assert torch.equal(torch.rand(1), expected)
