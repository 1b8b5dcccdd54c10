"""The table of claims in every format, whatever a plugin's text holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import ENVIRONMENT, HOSTILE, HOSTILE_REASON

from bakeoff.cli import cli
from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import document
from bakeoff.reports.page import page
from bakeoff.reports.text import markdown, terminal
from bakeoff.suites.claims.claim import CLAIM
from bakeoff.suites.environment import digest_of
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.store import Results, Store

CASE = Case(kind="claim", shape=FeatureShape(1, 1, 1))


def cell(name: str, number: int | None, scale: str = "quick") -> Cell:
    extra = {"scale": scale, "seeds": [0, 1, 2]}
    return Cell("claims", 1, CLAIM, name, CASE, extra | ({"number": number} if number else {}))


def told(of: Cell, statement: str, criteria: Iterable[str]) -> list[Record]:
    words = {"statement": statement, "source": "A book, §1", "criteria": ", ".join(criteria)}
    return [Record(of, name, reason=reason) for name, reason in words.items()]


def results(path: Path, *more: Cell) -> Results:
    """A claim that holds, one that does not, one undecided, one that failed, one of a stranger."""
    found = cell("late", 12), cell("early", 2), cell("open", 3), cell("broken", 4)
    late, early, undecided, broken = found
    stranger = cell("stranger", None)
    rows = [
        [
            Record(late, "verdict", 1.0, reason="holds"),
            Record(late, "ratio", 1.5, "", 1.25, 1.75, 3, reason="holds: > 1: one ÷ other: paired"),
            Record(late, "flops", 0.25, reason="holds: < 0.5: FLOPs, this ÷ that"),
        ],
        [
            Record(early, "verdict", 0.0, reason="does not hold"),
            Record(early, "time", 2e-3, "s", 1e-3, 3e-3, 3, reason="does not hold: < 0.0001: time"),
        ],
        [
            Record(undecided, "verdict", reason="undecided"),
            Record(undecided, "x", 1.0, "", 0.5, None, 3, reason="undecided: > 0.75: x"),
        ],
        [whole_cell(broken, Status.FAILED, HOSTILE_REASON)],
        [
            Record(stranger, "verdict", 1.0, reason="holds"),
            Record(stranger, "x", 1.0, reason=f"holds: > 0: {HOSTILE_REASON}"),
        ],
        *([Record(one, "verdict", 1.0, reason="holds")] for one in more),
    ]
    with Store(path) as store:
        for records in rows:
            of = records[0].cell
            statement = HOSTILE if of == stranger else f"It is said of {of.forward}."
            identity = Identified(digest_of([of.axes()]), "", "", ENVIRONMENT)
            # Of a process that died nothing is known but the cell.
            criteria = [record.metric for record in records[1:]]
            stated = [] if of == broken else told(of, statement, criteria)
            store.add(identity, of, [*records, *stated])
    return Results(path)


def lines_of(found: Results, width: int = 80) -> list[str]:
    return terminal(document(contents_of(found), wide=False), width).splitlines()


def test_the_table_reads_well_in_a_terminal(tmp_path: Path) -> None:
    lines = lines_of(results(tmp_path / "r.sqlite"))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "5 claims: 2 hold, 1 does not hold, 1 undecided, 1 failed." in text
    table = [" ".join(line.split()) for line in lines]
    for row in (
        "2. It is said of early. does not hold 0 of 1",
        "12. It is said of late. holds 2 of 2",
        "4. broken failed -",
        "✓ one ÷ other: paired > 1 1.50 [1.25, 1.75]",
        "✓ FLOPs, this ÷ that < 0.5 0.250",
        "✗ time < 0.0001 2.00 ms [1.00 ms, 3.00 ms]",
        "? x > 0.75 1.00 [0.500, ∞]",
    ):
        assert row in table
    # By their place in the textbook, and strangers' last.
    places = [text.index(f". {name}: ") for name in ("early", "open", "broken", "late")]
    assert places == sorted(places)
    assert text.index("one ÷ other") < text.index("FLOPs, this"), "not as the claim states them"
    assert text.index("\nstranger: holds\n") > text.index("\n12. late: holds\n")
    assert "run" not in text.split("Evidence")[0].split()


def test_runs_that_differ_are_told_apart(tmp_path: Path) -> None:
    text = "\n".join(lines_of(results(tmp_path / "r.sqlite", cell("late", 12, "standard"))))
    assert "quick, 3 seeds" in text.split("Evidence")[0]
    assert "standard, 3 seeds" in text.split("Evidence")[0]


def test_a_plugins_text_is_never_markup(tmp_path: Path) -> None:
    found = results(tmp_path / "r.sqlite")
    blocks = list(document(contents_of(found), wide=False))
    shown = page(blocks)
    assert HOSTILE not in shown
    assert "<script>alert(1)" not in shown
    for line in markdown(blocks).splitlines():
        if "script" in line:
            # Every one stands between a pair of backticks.
            assert "<" not in "".join(line.split("`")[::2]), line


def test_claims_stand_in_no_other_table(tmp_path: Path) -> None:
    (place,) = contents_of(results(tmp_path / "r.sqlite")).places
    assert place.kinds == ()
    assert [section.title for section, _ in place.sections] == ["The textbook"]


def test_a_run_prints_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--suite", "claims", "--claim", "linear_stack", "--seed", "0,1,2"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "1 claim: 1 holds." in done.output
    assert "1. linear stack: holds" in done.output
    assert done.output.rstrip().endswith("See them with `bakeoff report`.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--claim", "linear_stak"],
            "no claim is called 'linear_stak'; did you mean linear_stack?",
        ),
        (["--seed", "0"], "seeds: got (0,), expected at least 2 for the suite claims"),
    ],
)
def test_what_can_not_be_is_told(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["run", "--suite", "claims", *arguments])
    assert done.exit_code != 0
    assert said in done.output + str(done.exception)
    assert not list(tmp_path.iterdir())
