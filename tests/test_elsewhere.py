"""Reports elsewhere than on the page: LaTeX, SVG and PNG, and in a notebook."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from synthetic import BASELINE, HOSTILE, LENGTHS, write_results

import bakeoff
from bakeoff.cli.report import report as command
from bakeoff.registry.errors import UnknownNameError
from bakeoff.reports.blocks import Chart, Figure, Grid, Heading, Maps, Text
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import document
from bakeoff.reports.drawings import Drawing, drawings
from bakeoff.reports.latex import escaped, latex
from bakeoff.reports.maps import Picture
from bakeoff.suites.store import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(write_results(tmp_path_factory.mktemp("known") / "known.sqlite", activations=2))


def invoke(results: Results, *arguments: object) -> Any:
    return CliRunner().invoke(command, ["--results", str(results.path), *map(str, arguments)])


# LaTeX


def test_every_grid_is_a_table(results: Results) -> None:
    blocks = list(document(contents_of(results), wide=True))
    text = latex(blocks)
    grids = [block for block in blocks if isinstance(block, Grid)]
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == len(grids)
    assert text.count(r"\begin{") == text.count(r"\end{")
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels)) == len(grids)
    # Every row ends, and has as many cells as there are columns.
    for table in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        counts = {
            len(re.findall(r"(?<!\\)&", line))
            for line in table.splitlines()
            if line.endswith(r"\\")
        }
        assert len(counts) == 1


def test_nothing_is_markup_but_ours(results: Results) -> None:
    text = latex(document(contents_of(results), wide=True))
    assert HOSTILE not in text
    assert r"\textless{}script\textgreater{}" in text
    assert all(c.isascii() or c.isalpha() for c in text)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("a_b & 5%", r"a\_b \& 5\%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("±3% ≤ ∞", r"\ensuremath{\pm}3\% \ensuremath{\le} \ensuremath{\infty}"),
        ("é", "é"),
        ("☃", "?"),
    ],
)
def test_escapes(given: str, told: str) -> None:
    assert escaped(given) == told


def test_a_long_table_may_break() -> None:
    rows = tuple((f"v{i}", "1") for i in range(60))
    text = latex([Heading(1, "all"), Heading(2, "Speed"), Text(("prose",)), Grid(("N", "1"), rows)])
    assert r"\begin{longtable}{lr}" in text
    assert r"\caption{Speed}\label{tab:speed}" in text
    assert "prose" not in text


def test_latex_by_command(results: Results, tmp_path: Path) -> None:
    done = invoke(results, "-o", tmp_path / "tables.tex", "--kind", "attention")
    assert done.exit_code == 0, done.output
    assert r"\begin{tabular}" in (tmp_path / "tables.tex").read_text()


# Figures


SPEC = {
    "width": "container",
    "data": {"values": [{"a": 1, "b": 2}]},
    "mark": "point",
    "encoding": {
        axis: {"field": f, "type": "quantitative"} for axis, f in (("x", "a"), ("y", "b"))
    },
}


def named(drawn: Sequence[Drawing], part: str) -> Drawing:
    return next(drawing for drawing in drawn if part in drawing.title)


def test_every_figure_is_drawn(results: Results) -> None:
    blocks = list(document(contents_of(results), wide=False))
    found = list(drawings(blocks))
    assert len(found) == sum(isinstance(block, Chart) for block in blocks) > 8
    drawing = named(found, "causal_self, float32, forward: ratio")
    values = drawing.spec["data"]["values"]
    assert {row["N"] for row in values} == set(LENGTHS)
    assert BASELINE in {row["rival"] for row in values}


def test_a_figure_is_svg_and_png() -> None:
    (drawing,) = drawings([Heading(2, "Learning"), Figure(SPEC)])
    svg = ET.fromstring(drawing.svg())
    assert svg.tag.endswith("svg")
    assert float(svg.attrib["width"]) > 640
    assert "Learning" in drawing.svg()
    assert drawing.png().startswith(b"\x89PNG")
    assert drawing._repr_svg_() == drawing.svg()


def test_a_map_is_a_figure() -> None:
    picture = Picture("some", "causal_self", 0.75, ("90", "99"))
    (drawing,) = drawings([Maps(Heading(3, "Who attends to whom"), Text(("",)), (picture,))])
    assert drawing.name == "who-attends-to-whom-some-causal-self-75-of-all-pairs"
    pairs = {(row["query"], row["key"]) for row in drawing.spec["data"]["values"]}
    assert pairs == {(0, 0), (1, 0), (1, 1)}
    assert "<svg" in drawing.svg()


def test_names_of_files_are_harmless() -> None:
    assert Drawing("../../etc/<script>", {}).name == "etc-script"
    assert Drawing("…", {}).name == "figure"


@pytest.mark.parametrize(("wanted", "begin"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_folder_of_figures(results: Results, tmp_path: Path, wanted: str, begin: bytes) -> None:
    folder = tmp_path / "figures"
    done = invoke(results, "--format", wanted, "-o", folder, "--kind", "connection")
    assert done.exit_code == 0, done.output
    files = sorted(folder.iterdir())
    assert files[0].name.startswith("001-connection-speed")
    assert all(file.read_bytes().startswith(begin) for file in files)
    assert f"Wrote {len(files)} figures to" in done.output


def test_figures_need_a_folder(results: Results, tmp_path: Path) -> None:
    done = invoke(results, "--format", "svg")
    assert done.exit_code == 2
    assert "needs a folder: add -o figures" in done.output
    (tmp_path / "taken").write_text("")
    done = invoke(results, "--format", "svg", "-o", tmp_path / "taken")
    assert isinstance(done.exception, bakeoff.BakeoffError)
    assert "choose another" in str(done.exception)


# In a notebook


def test_a_report_holds_its_tables(results: Results) -> None:
    report = bakeoff.report(results, kinds="attention")
    tables = report.tables()
    name = next(name for name in tables if "ratio" in name and "causal_self" in name
                and "float32" in name and "forward" in name)  # fmt: skip
    frame = tables[name]
    own = frame[(frame.rival == "linear:chunked") & (frame.N == 8192)]
    assert own.difference.item() == "faster"
    assert own.low.item() < own.value.item() < own.high.item()
    assert "wrong_one:fast" not in set(frame.rival)


def test_a_report_shows_itself(results: Results) -> None:
    report = bakeoff.report(results.path, kinds=["connection"], suites=["speed"])
    assert repr(report).startswith("<Report on known.sqlite")
    assert report._repr_markdown_().startswith("# bakeoff report")
    assert max(map(len, str(report).splitlines())) <= 80
    assert len(report.figures()) == 2
    assert report.html().startswith("<!doctype html>")
    assert r"\toprule" in report.latex()
    assert "residual:reference" in report.markdown()
    with pytest.raises(UnknownNameError, match="did you mean connection"):
        bakeoff.report(results, kinds="conection")


def test_results_show_themselves(results: Results, tmp_path: Path) -> None:
    shown = results._repr_html_()
    table = ET.fromstring(shown[shown.index("<table>") :])
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.iter("tr")}
    assert {"ok", "oom", "timeout", "unsupported", "wrong"} <= set(rows["suite"])
    frame = results.to_pandas()
    counted = frame[(frame.suite == "speed") & (frame.status == "ok")]
    assert rows["speed"][rows["suite"].index("ok")] == str(len(counted))
    named = tmp_path / "<img>.sqlite"
    named.write_bytes(results.path.read_bytes())
    assert "<img>" not in Results(named)._repr_html_()
