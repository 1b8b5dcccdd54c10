"""A control is shown and never ranked, whatever form a report has and however fast it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import pytest
from click.testing import CliRunner
from test_pick import METADATA

import bakeoff
from bakeoff.cli.list import variants as list_command
from bakeoff.picking import pick
from bakeoff.registry.errors import UsageError
from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.registry.validation import faults_of
from bakeoff.reports.charts import chart
from bakeoff.reports.contents import Contents, contents_of
from bakeoff.reports.document import document
from bakeoff.reports.front_chart import front_chart
from bakeoff.reports.fronts import fronts_of
from bakeoff.reports.growth_charts import growth_figures
from bakeoff.reports.latex import latex
from bakeoff.reports.page import page
from bakeoff.reports.pick.document import document as picked_document
from bakeoff.reports.pick.document import to_json
from bakeoff.reports.rows import rows_of
from bakeoff.reports.tables import leaders
from bakeoff.reports.text import markdown, terminal
from bakeoff.suites.environment import digest_of, environment
from bakeoff.suites.identity import Identified, identified
from bakeoff.suites.records import Cell, Record
from bakeoff.suites.store import Results, Store

#: The planted one is by far the best in everything.
COSTS = {"relu:torch": 1.0, "copy:fast": 0.01, "slow:torch": 2.0, "slower:torch": 3.0}
BASELINE = "relu:torch"
LENGTHS = (64, 128, 256)


def planted(control: bool) -> bakeoff.Catalog:
    about = {"copy": replace(METADATA, control=control)}
    made = [
        bakeoff.Activation(
            name,
            forwards={"reference": _clone, forward: _clone},
            metadata=about.get(name, METADATA),
        )
        for name, forward in (label.split(":") for label in COSTS)
    ]  # fmt: skip
    return bakeoff.Catalog({variant.name: variant for variant in made})


def _clone(x: Any) -> Any:
    return x.clone()


def measured() -> Iterator[tuple[Cell, list[Record]]]:
    for label, cost in COSTS.items():
        for n in LENGTHS:
            case = Case(kind="activation", shape=FeatureShape(1, n, 256), direction="forward")
            speed = _cell("speed", label, case)
            ends = {"low": 0.99 * cost, "high": 1.01 * cost, "n": 50}
            yield (
                speed,
                [
                    Record(speed, "time", cost * 1e-5, "s"),
                    Record(speed, "ratio", cost, reason=f"to {BASELINE}", **ends),
                    Record(speed, "noise_floor", 1.02, n=50),
                ],
            )
            memory = _cell("memory", label, case)
            yield memory, [Record(memory, "peak_bytes", 1024 * n * cost, "bytes")]
        error = _cell("accuracy", label, case, check="error")
        yield error, [Record(error, "error_ratio", 0.5), Record(error, "rms_error", 1e-7 * cost)]
        times = _cell("scaling", label, case, check="times")
        yield (
            times,
            [
                Record(times, "time_exponent", cost, "", 0.9 * cost, 1.1 * cost),
                Record(times, "crossover_length", 64.0 * cost, "", 60 * cost, 70 * cost),
            ],
        )
        flow = _cell("gradient", label, case, check="flow", depth=8, draws=3)
        exponent = 0.1 if label == BASELINE else cost - 0.01
        yield (
            flow,
            [
                Record(flow, "grad_norm_ratio", 1 + cost, "", 1 + cost, 2 + cost),
                Record(flow, "grad_norm_exponent", exponent),
            ],
        )


def _cell(suite: str, label: str, case: Case, **extra: Any) -> Cell:
    variant, _, forward = label.partition(":")
    return Cell(suite, 1, variant, forward, case, extra)


def written(path: Path, control: bool) -> Results:
    machine = environment()
    with Store(path) as store:
        for cell, records in measured():
            mark = control and cell.variant == "copy"
            identity = Identified(digest_of([cell.axes(), mark]), "", "", machine, mark)
            store.add(identity, cell, records)
    return Results(path)


@pytest.fixture(scope="module", params=[True, False], ids=["a control", "no control"])
def flag(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def results(flag: bool, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return written(tmp_path_factory.mktemp("controls") / "r.sqlite", flag)


@pytest.fixture(scope="module")
def contents(results: Results) -> Contents:
    return contents_of(results)


FORMS = {
    "terminal": lambda made: terminal(made, 200),
    "markdown": markdown,
    "latex": latex,
    "html": page,
}


@pytest.mark.parametrize("form", FORMS)
def test_no_report_names_a_control_as_the_winner(contents: Contents, flag: bool, form: str) -> None:
    told = FORMS[form](list(document(contents, wide=False, catalog=planted(flag))))
    assert "copy:fast" in told  # it is shown all the same
    mark = re.compile(r"copy:fast[^\n\w]{0,3}\(control\)")
    assert bool(mark.search(told)) is flag
    # Who leads stands in a cell of its own, with the number.
    leads = re.findall(r"(copy:fast|relu:torch)(?: \(control\))? (?:0\.01|1\b)", told)
    assert bool(leads)
    assert ("copy:fast" in leads) is not flag
    if form != "latex":  # which has no prose
        (unbeaten,) = re.findall(r"N = 256: (\w+:\w+)", re.sub(r"<[^>]+>|`", "", told))
        assert unbeaten == (BASELINE if flag else "copy:fast")


def test_a_table_shows_it_last(contents: Contents, flag: bool) -> None:
    (kind,) = contents.places[0].kinds
    for table in (*kind.speed, *kind.memory):
        assert len(table.rivals) == len(COSTS)
        found = leaders(table)
        assert found is not None
        if flag:
            assert table.controls == (table.rivals[-1],) == ("copy:fast (control)",)
            assert found.first == BASELINE
        else:
            assert table.controls == ()
            assert found.first == table.rivals[0] == "copy:fast"
    rivals = chart(kind.speed[0])["data"]["values"]
    assert len({row["rival"] for row in rivals}) == len(COSTS)


def test_it_is_not_on_the_front_and_takes_nobody_off_it(contents: Contents, flag: bool) -> None:
    (kind,) = contents.places[0].kinds
    (front,) = fronts_of(kind.speed, kind.memory, kind.errors)
    unbeaten = [point.rival for point in front.points if point.unbeaten]
    assert unbeaten == [BASELINE] if flag else ["copy:fast"]
    standing = {v["rival"]: v["beaten"] for v in front_chart(front)["data"]["values"]}
    own = "copy:fast (control)" if flag else "copy:fast"
    assert standing[own] == ("control, not ranked" if flag else "not beaten")
    # What is left when the control is gone makes no front of its own.
    fewer = [replace(t, entries={k: e for k, e in t.entries.items() if k[0] != "slow:torch"})
             for t in kind.speed]  # fmt: skip
    assert bool(fronts_of(fewer, kind.memory, kind.errors)) is not flag


def test_it_overtakes_nobody(contents: Contents, flag: bool) -> None:
    (scaling,) = contents.places[0].kinds[0].scaling
    own = "copy:fast (control)" if flag else "copy:fast"
    assert (list(scaling.rows)[-1] == own) is flag
    assert ("control" in scaling.rows[own]) is flag
    assert scaling.rows[own][0].startswith("0.01")
    exponents, lengths = (figure.spec["data"]["values"] for figure in growth_figures(scaling))
    assert own in {row["rival"] for row in exponents}
    assert (own in {row["rival"] for row in lengths}) is not flag


def test_stacks_are_sorted_without_it(contents: Contents, flag: bool) -> None:
    told = terminal(list(document(contents, wide=False)), 200).partition("Stacks of activations")[2]
    names = re.findall(r"^(copy|relu|slow|slower)(?::|\b)", told, re.M)
    assert (names[-1] == "copy") is flag
    assert (names[0] == "copy") is not flag


def test_it_is_never_taken(results: Results, flag: bool) -> None:
    found = pick("activation", 128, results=results.path, catalog=planted(flag))
    assert found.taken is not None
    assert found.taken.label == (BASELINE if flag else "copy:fast")
    out = {candidate.label: candidate.out[0].rule for candidate in found.ruled_out}
    assert ("copy:fast" in out) is flag
    assert found.tied == ()
    told = terminal(list(picked_document(found)), 200)
    assert ("a control, which is there to be compared with" in told) is flag
    assert ("copy" in to_json(found).partition("ruled_out")[0]) is not flag


def test_a_control_in_the_results_or_in_the_catalog_is_never_taken(
    results: Results, flag: bool
) -> None:
    """It is enough that one says so: the results, or what is registered now."""
    found = pick("activation", 128, results=results.path, catalog=planted(True))
    assert found.taken is not None
    assert found.taken.label == BASELINE
    found = pick("activation", 128, results=results.path, catalog=planted(False))
    assert found.taken is not None
    assert (found.taken.label == "copy:fast") is not flag


def test_only_controls_are_nothing_to_pick_from(results: Results) -> None:
    one = planted(True)["copy"]
    with pytest.raises(UsageError, match=r"take fewer \(controls are never taken\)"):
        pick("activation", 128, results=results.path, catalog=bakeoff.Catalog({"copy": one}))


def test_the_latest_measurement_says_whether_it_is_one(tmp_path: Path) -> None:
    """A variant that became a control is none in no suite that was measured before."""
    path = tmp_path / "r.sqlite"
    written(path, control=False)
    assert not any(row.control for row in rows_of(Results(path).to_pandas()))
    cell, records = next(pair for pair in measured() if pair[0].variant == "copy")
    with Store(path) as store:
        store.add(Identified("new", "", "", environment(), control=True), cell, records)
    rows = rows_of(Results(path).to_pandas())
    assert {row.control for row in rows if row.axes["variant"] == "copy"} == {True}
    assert not any(row.control for row in rows if row.axes["variant"] != "copy")


def test_the_flag_is_stored_and_makes_another_cell() -> None:
    cell = next(cell for cell, _ in measured() if cell.variant == "copy")
    one, other = (identified(planted(flag), [cell])[cell] for flag in (True, False))
    assert (one.control, other.control) == (True, False)
    assert one.key != other.key
    bracketed = replace(cell, variant="(uniform mean)")
    assert identified(planted(False), [bracketed])[bracketed].control


def test_the_built_in_ones(catalog: bakeoff.Catalog) -> None:
    controls = {name for name, variant in catalog.items() if variant.metadata.control}
    assert controls == {"identity", "plain"}


def test_the_flag_is_judged() -> None:
    broken = replace(planted(True)["copy"], metadata=replace(METADATA, control="yes"))
    (fault,) = faults_of(broken)
    assert str(fault).startswith("metadata.control: got ")
    assert "True or False" in str(fault)


def test_the_list_marks_it() -> None:
    told = CliRunner().invoke(list_command, ["--kind", "connection"]).output
    assert re.search(r"^plain +.*\(control\)", told, re.M)
    assert not re.search(r"^residual +.*\(control\)", told, re.M)


@pytest.mark.skipif(browser.FOUND is None, reason="needs Chromium on the PATH")
def test_the_page_sorts_it_last(contents: Contents, flag: bool, tmp_path: Path) -> None:
    made = tmp_path / "report.html"
    made.write_text(page(document(contents, wide=False, catalog=planted(flag))), "utf-8")
    with browser.browser(tmp_path / "profile") as tab:
        tab.look()
        tab.open(made)
        tables = "[...document.querySelectorAll('table')]"
        table = f"{tables}.find(t => /Table: ratio/.test(t.caption.textContent))"
        tab.run(f"{table}.tHead.rows[0].cells[1].querySelector('button').click()")
        names = tab.run(f"[...{table}.tBodies[0].rows].map(r => r.cells[0].textContent)")
    assert names[-1 if flag else 0].startswith("copy:fast")
