"""Reports of known results: what is ranked, what is not, and that nothing is executed."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic import BASELINE, HOSTILE, HOSTILE_REASON, LENGTHS, cells, write_results

from bakeoff.registry.errors import UnknownNameError, UsageError
from bakeoff.reports import export
from bakeoff.reports.blocks import Chart, Figure, Grid
from bakeoff.reports.contents import Contents, Kind, contents_of
from bakeoff.reports.document import document
from bakeoff.reports.page import page
from bakeoff.reports.tables import Table, difference, leaders
from bakeoff.reports.text import markdown, terminal
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Status
from bakeoff.suites.store import Results, Store

WRONG = "wrong_one:fast"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(write_results(tmp_path_factory.mktemp("results") / "known.sqlite"))


@pytest.fixture(scope="module")
def contents(results: Results) -> Contents:
    return contents_of(results)


def kind_of(contents: Contents, name: str) -> Kind:
    return next(kind for kind in contents.places[0].kinds if kind.name == name)


def table_of(contents: Contents, metric: str, *, kind: str = "attention", **fixed: object) -> Table:
    """The one table of a metric with these axes."""
    found = kind_of(contents, kind)
    tables = [
        table
        for table in (*found.speed, *found.memory)
        if table.metric == metric and fixed.items() <= table.fixed.items()
    ]
    assert len(tables) == 1
    return tables[0]


def causal(contents: Contents, metric: str = "ratio") -> Table:
    return table_of(contents, metric, pattern="causal_self", direction="forward", dtype="float32")


def test_verdicts(contents: Contents) -> None:
    verdicts = {v.label: v for v in kind_of(contents, "attention").verdicts}
    assert verdicts[BASELINE].verdict == "right"
    assert verdicts[BASELINE].errors == {"float32": 0.5, "bfloat16": 0.9}
    assert verdicts[WRONG].verdict == "wrong"
    assert verdicts["additive:reference"].verdict == "unverified"
    assert verdicts["refuses:reference"].verdict == "not measured"


def test_wrong_is_never_ranked(contents: Contents) -> None:
    attention = kind_of(contents, "attention")
    for table in (*attention.speed, *attention.memory, *attention.others):
        assert WRONG not in table.rivals
        assert WRONG in table.unranked
        assert all(rival != WRONG for rival, _ in table.entries)
        found = leaders(table)
        assert found is None or WRONG not in (found.first, *found.tied)


def test_a_filter_does_not_bring_a_wrong_variant_back(results: Results) -> None:
    speed = contents_of(results, suites=["speed"])
    assert WRONG in kind_of(speed, "attention").wrong
    assert all(WRONG not in table.rivals for table in kind_of(speed, "attention").speed)


def test_the_planted_winner_would_have_won(tmp_path: Path) -> None:
    """The control: the same numbers without a wrong row do rank it first."""
    with Store(tmp_path / "right.sqlite") as store:
        for i, (cell, records) in enumerate(cells(2)):
            kept = [
                replace(r, status=Status.OK) if r.status == Status.WRONG else r for r in records
            ]
            store.add(Identified(str(i), "", "", {"cpu": "one"}), cell, kept)
    table = causal(contents_of(Results(tmp_path / "right.sqlite")))
    assert WRONG in table.rivals
    assert table.entries[WRONG, 128].value == pytest.approx(0.2, rel=0.03)


def test_what_is_ranked_first_is_what_is_fastest_at_the_largest_length(
    contents: Contents,
) -> None:
    table = causal(contents)
    assert table.lengths == LENGTHS
    at_end = [e.value for r in table.rivals if (e := table.entries.get((r, 8192))) and e.value]
    assert at_end == sorted(at_end)
    assert table.rivals[0] == "linear:chunked"


def test_axes_are_never_mixed(contents: Contents) -> None:
    fixed = [
        tuple(sorted((n, str(v)) for n, v in table.fixed.items()))
        for kind in contents.places[0].kinds
        for table in kind.speed
        if table.metric == "ratio"
    ]
    # 2 patterns × 2 directions × 2 dtypes of attention, 2 directions of each other kind.
    assert len(fixed) == len(set(fixed)) == 8 + 2 + 2


def test_environments_stand_apart(tmp_path: Path) -> None:
    both = contents_of(Results(write_results(tmp_path / "two.sqlite", environments=2)))
    assert [place.description["cpu"] for place in both.places] == [
        "Synthetic CPU 0",
        "Synthetic CPU 1",
    ]
    told = terminal(document(both, wide=False))
    assert "Measured in 2 environments, which are never mixed" in told


def test_failures_have_a_section_of_their_own(contents: Contents) -> None:
    told = terminal(document(contents, wide=False))
    section = told[told.index("Failures (") :]
    for words in (f"{WRONG} wrong", "additive:reference timeout", "oom", "crashed"):
        assert words in section
    unsupported = section[section.index("Unsupported (") :]
    assert "refuses:reference" in unsupported


@pytest.mark.parametrize(
    ("low", "high", "floor", "said"),
    [
        (0.8, 0.9, 1.03, "faster"),
        (1.1, 1.2, 1.03, "slower"),
        (0.98, 1.02, 1.03, "no difference"),
        (0.9, 1.2, 1.03, "undecided"),
        (0.96, 0.99, 1.03, "undecided"),
        (1.01, 1.02, None, "slower"),
    ],
)
def test_difference(low: float, high: float, floor: float | None, said: str) -> None:
    assert difference(low, high, floor) == said


def test_the_twin_is_no_difference(contents: Contents) -> None:
    table = causal(contents)
    assert {table.entries["twin:sdpa", n].difference for n in LENGTHS} == {"no difference"}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_fits(contents: Contents, width: int) -> None:
    lines = terminal(document(contents, wide=False), width).splitlines()
    assert max(map(len, lines)) <= width


def test_no_control_character_reaches_the_terminal(contents: Contents) -> None:
    assert "\x1b" in HOSTILE_REASON
    told = terminal(document(contents, wide=False)) + markdown(document(contents, wide=True))
    assert all(c.isprintable() or c == "\n" for c in told)


def test_markdown_is_well_formed(contents: Contents) -> None:
    told = markdown(document(contents, wide=True))
    tables = re.findall(r"(?:^\|.*\|\n)+", told, re.MULTILINE)
    assert tables
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table
    without_code = re.sub(r"`[^`]*`", "", told)
    assert "<script" not in re.sub(r"\\<", "", without_code)


def test_the_page_shows_hostile_names_as_text(contents: Contents) -> None:
    html = page(document(contents, wide=True))
    assert HOSTILE in "".join(v.label for v in kind_of(contents, "attention").verdicts)
    before = html[: html.index('<script type="application/json"')]
    assert "<script" not in before
    assert "&lt;script&gt;alert(&#x27;name&#x27;)" in before
    assert "<img" not in before
    assert "default-src 'none'" in html
    data = re.search(r'<script type="text/plain" id="data">([\w+/=]*)</script>', html)
    assert data
    charts = json.loads(gzip.decompress(base64.b64decode(data[1])))["charts"]
    blocks = [inner for b in document(contents, wide=True) for inner in getattr(b, "blocks", (b,))]
    assert len(charts) == sum(isinstance(block, Chart | Figure) for block in blocks)
    assert HOSTILE in json.dumps(charts)


def test_the_page_fetches_nothing(contents: Contents) -> None:
    html = page(document(contents, wide=True))
    assert not re.search(r"<(?:link|img|iframe)\b|<script[^>]+src=|@import|url\(", html[:20_000])


@pytest.mark.filterwarnings("default")
def test_every_chart_compiles(contents: Contents) -> None:
    import vl_convert

    from bakeoff.reports.charts import chart

    blocks = [b for b in document(contents, wide=True) if isinstance(b, Chart)]
    lines = next(b for b in blocks if len(b.table.rivals) > 8 and len(b.table.lengths) > 2)
    dots = next(b for b in blocks if len(b.table.rivals) > 12)
    for block in (lines, dots):
        spec = chart(block.table)
        svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 400}))
        for rival in block.table.rivals:
            assert rival.replace("<", "&lt;").replace(">", "&gt;") in svg


def test_a_chart_shows_every_value_of_its_table(contents: Contents) -> None:
    from bakeoff.reports.charts import chart

    table = causal(contents)
    values = chart(table)["data"]["values"]
    assert {(v["rival"], v["N"], v["value"]) for v in values} == {
        (rival, n, value) for rival, n, _, value in table.measured()
    }


def test_grids_show_why_there_is_no_number(contents: Contents) -> None:
    grids = [b for b in document(contents, wide=False) if isinstance(b, Grid)]
    told = {text for grid in grids for row in grid.rows for text in row}
    assert {"timeout", "oom", "crashed"} <= told


def test_exports_hold_every_record(results: Results, tmp_path: Path) -> None:
    frame = results.to_pandas()
    back = pd.read_csv(io.StringIO(export.csv(frame)))
    assert len(back) == len(frame)
    assert back.value.sum() == pytest.approx(frame.value.sum())
    assert len(json.loads(export.json(frame))) == len(frame)
    export.parquet(frame, tmp_path / "all.parquet")
    assert len(pd.read_parquet(tmp_path / "all.parquet")) == len(frame)
    assert back.head_dim.dropna().map(float.is_integer).all()


def test_exports_are_filtered(results: Results) -> None:
    frame = export.chosen(results.to_pandas(), kinds=["connection"], suites=["speed"])
    assert set(frame.kind) == {"connection"}
    assert set(frame.suite) == {"speed"}


@pytest.mark.parametrize("judge", [contents_of, lambda r, **f: export.chosen(r.to_pandas(), **f)])
@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (
            {"variants": ["liner"]},
            "the results hold no variant called 'liner'; did you mean linear?",
        ),
        ({"kinds": ["atention"]}, "the results hold no kind called 'atention'; did you mean"),
        ({"suites": ["sped"]}, "the results hold no suite called 'sped'; did you mean speed?"),
    ],
)
def test_unknown_filters(results: Results, judge, filters, message: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        judge(results, **filters)


def test_nothing_left(results: Results) -> None:
    with pytest.raises(UsageError, match="the results hold nothing for this selection"):
        contents_of(results, kinds=["attention"], variants=["residual"])
