"""What the guide shows, run as it stands: commands in order, files under the names it gives."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "guide"
PAGES = ("start", "write_a_suite", "read_the_numbers", "trust_the_numbers")
#: A block with the language and the paragraph before it: that may name a file.
_BLOCK = re.compile(
    r"(?P<before>[^\n]*\n)\n```(?P<language>python|console)\n(?P<code>.*?)```", re.S
)
_FILE = re.compile(r"`(\w+\.py)`[^`]*\n$")


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_example_runs(page: str, tmp_path: Path) -> None:
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    assert text.count("```python") + text.count("```console") == len(blocks)
    for block in blocks:
        named = _FILE.search(block["before"])
        if block["language"] == "console":
            for line in block["code"].splitlines():
                command = line.removeprefix("$ ")
                if not command.startswith("python -m pip"):
                    assert command.startswith("bakeoff "), command
                    python(tmp_path, "-m", "bakeoff", *shlex.split(command)[1:])
        elif named:
            (tmp_path / named[1]).write_text(block["code"], encoding="utf-8")
        else:
            python(tmp_path, "-c", block["code"])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (GUIDE / target).is_file(), target


def test_the_suite_of_the_guide_measures(tmp_path: Path) -> None:
    """In this process, quickly: the gain of identity is 1, that of plain branches is not."""
    from dataclasses import replace

    import bakeoff
    from bakeoff.suites.selection import selection_for
    from bakeoff.suites.spec import suites_of

    text = (GUIDE / "write_a_suite.md").read_text(encoding="utf-8")
    (tmp_path / "gain.py").write_text(re.findall(r"```python\n(.*?)```", text, re.S)[0])
    catalog = bakeoff.load([tmp_path / "gain.py"], entry_points=False, pyproject=False)
    assert catalog.problems == ()
    names = ("identity", "relu", "softmax_off_by_one")
    selection = selection_for("quick", "gain", {"variants": names, "seq_lens": (16,)})
    suite = suites_of(catalog, ["gain"])["gain"]
    records = [
        record
        for job in suite.plan(catalog, selection)
        for record in suite.measure(replace(job, catalog=catalog))
    ]
    gains = {record.cell.label: record.value for record in records}
    assert gains["identity:reference"] == 1.0
    assert gains["relu:torch"] == pytest.approx(0.5**0.5, rel=0.05)
    assert {record.metric for record in records} <= suite.metrics.keys()


@pytest.mark.filterwarnings("ignore")  # those of transformers
def test_a_variant_in_your_model(capsys: pytest.CaptureFixture[str]) -> None:
    """All of its Python in one go; the last three lines of the first part are the point."""
    pytest.importorskip("transformers")
    text = (GUIDE / "in_your_model.md").read_text(encoding="utf-8")
    first, *rest = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(first.rstrip().rpartition("\n\n")[2].splitlines()) == 3
    scope: dict[str, object] = {}
    for part in (first, *rest):
        exec(part, scope)
    assert capsys.readouterr().out == "torch.Size([2, 20])\n"
