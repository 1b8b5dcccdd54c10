"""The guide's pages: every example, run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guide"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
#: The pages with examples that build on each other, in this order.
PAGES = ("write_a_variant", "ci_for_authors")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block, in order."""
    for match in BLOCK.finditer((GUIDE / f"{page}.md").read_text(encoding="utf-8")):
        yield match.group(1), match.group(2)


def run(folder: Path, command: str, status: int) -> str:
    """What a command of the guide prints."""
    name, *arguments = shlex.split(command)
    if name == "pytest":
        plugins = ["-p", "bakeoff.pytest_plugin"]
        if "benchmark" in command:
            plugins += ["-p", "pytest_benchmark.plugin", "--benchmark-max-time=0.02"]
        arguments = [*plugins, *arguments]
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == status, (command, done.stdout, done.stderr)
    return done.stdout


def write(folder: Path, text: str) -> Path | None:
    """A Python block that names its file; ``file: function`` replaces one function of it."""
    title, _, code = text.partition("\n")
    name, _, function = title.removeprefix("# ").partition(": ")
    if not title.startswith("# ") or not name.endswith(".py"):
        return None
    file = folder / name
    if function:
        old = re.search(rf"def {function}\(.*?(?=\n\n\n)", file.read_text(), re.DOTALL)
        assert old, function
        text = file.read_text().replace(old.group(), code.rstrip("\n"))
    file.write_text(text)
    return file


@pytest.mark.slow
def test_how_to_write_a_variant(tmp_path: Path) -> None:
    told, status = "", 0
    for language, text in blocks("write_a_variant"):
        if language == "console":
            for line in text.splitlines():
                # The page says of the first that its exit status is 1.
                status = int("softclip.py --dtype" in line)
                told = run(tmp_path, line.removeprefix("$ "), status)
                assert status or ": right\n" in told or "Wrote" in told
        elif language == "text":
            for line in text.splitlines():
                assert line in told
        elif (file := write(tmp_path, text)) and file.name == "model.py":
            done = subprocess.run(
                [sys.executable, file], cwd=tmp_path, capture_output=True, text=True
            )
            assert (done.returncode, done.stdout) == (0, "676\n"), done.stderr


@pytest.mark.slow
def test_ci_for_authors(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    lines: list[str] = []
    for language, text in blocks("ci_for_authors"):
        if language == "console":
            lines += [line.removeprefix("$ ") for line in text.splitlines()]
        elif language == "python":
            assert write(tmp_path, text)
        elif language == "toml":
            assert tomllib.loads(text)["tool"]["pytest"]["ini_options"]["bakeoff_variants"]
    for line in lines:
        told = run(tmp_path, line, 0)
        assert told
    assert "my_activation:hypot" in told


def test_every_example_is_of_a_known_sort() -> None:
    pages = {path.stem for path in GUIDE.glob("*.md")}
    assert set(PAGES) <= pages
    for page in PAGES:
        for language, text in blocks(page):
            assert language in ("console", "python", "text", "toml", "yaml"), language
            if language == "console":
                assert all(
                    line.startswith(("$ bakeoff ", "$ pytest ")) for line in text.splitlines()
                )
            if language == "python":
                assert text.startswith("# "), text


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (GUIDE / target).exists(), target
