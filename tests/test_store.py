"""The results file: what is acknowledged is kept, and what is not ours is not touched."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bakeoff
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import AXES, Cell, Record, Status
from bakeoff.suites.store import READABLE_SCHEMA, SCHEMA_VERSION, Results, Store, StoreError

CASE = Case(kind="attention", shape=Shape(2, 4, 2, 8, 16, 32, 24), pattern="cross")
CELL = Cell("speed", 3, "planted", "fast", CASE, {"layer": 2})
MACHINE = {"cpu": "one"}


def known(key: str, machine: dict[str, str] = MACHINE) -> Identified:
    """An identity with this key."""
    return Identified(key, "sources", "", machine)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def test_what_goes_in_comes_out(path: Path) -> None:
    case = replace(
        CASE,
        shape=Shape(2, 4, 2, 8, 16, 32, 24, grid=((4, 2), (4, 2))),
        options={"window": 3, "decay": 0.5},
        dtype="bfloat16",
        direction="training",
        mode="compiled",
        threads=2,
        inputs="peaked",
        seed=7,
    )
    cell = replace(CELL, case=case)
    record = Record(cell, "time", 1.5, "s", 1.25, 1.75, 40, Status.OK, "a remark")
    with Store(path) as store:
        store.add(known("key"), cell, [record])
    (row,) = Results(path).to_pandas().to_dict("records")
    expected = {
        "suite": "speed", "suite_version": 3, "kind": "attention", "variant": "planted",
        "forward": "fast", "pattern": "cross", "seq_len": 8, "batch": 2, "heads": 4,
        "kv_heads": 2, "q_len": 8, "k_len": 16, "head_dim": 32, "value_dim": 24,
        "grid": "[[4, 2], [4, 2]]", "options": '{"decay":0.5,"window":3}', "dtype": "bfloat16",
        "device": "cpu", "direction": "training", "mode": "compiled", "threads": 2,
        "inputs": "peaked", "seed": 7, "extra": '{"layer":2}', "metric": "time", "value": 1.5,
        "unit": "s", "low": 1.25, "high": 1.75, "n": 40, "status": "ok", "reason": "a remark",
    }  # fmt: skip
    assert set(AXES) <= row.keys()
    assert {name: row[name] for name in expected} == expected
    assert Results(path).environments() == {row["environment"]: MACHINE}


PLAIN = st.one_of(
    st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text(max_size=4)
)


@settings(max_examples=60, deadline=None)
@given(
    options=st.dictionaries(st.text(max_size=4), st.one_of(PLAIN, st.tuples(PLAIN, PLAIN))),
    extra=st.dictionaries(st.text(max_size=4), PLAIN, max_size=2),
    features=st.booleans(),
)
def test_a_cell_survives_json(options: dict, extra: dict, features: bool) -> None:
    import json

    case = Case(kind="activation", shape=FeatureShape(1, 2, 3)) if features else CASE
    cell = replace(CELL, case=replace(case, options=options), extra=extra)
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell


def test_a_missing_number_is_no_number(path: Path) -> None:
    record = Record(CELL, "time", status=Status.TIMEOUT, reason="too long")
    with Store(path) as store:
        store.add(known("key"), CELL, [record])
    row = Results(path).to_pandas().iloc[0]
    assert row[["value", "low", "high", "n"]].isna().all()
    assert (row.status, row.reason) == ("timeout", "too long")


def test_of_one_key_the_latest_is_shown_and_both_are_kept(path: Path) -> None:
    with Store(path) as store:
        first = [Record(CELL, "time", 1.0), Record(CELL, "ratio", 2.0)]
        store.add(known("key"), CELL, first, at=1.0)
        store.add(known("key"), CELL, [Record(CELL, "time", 3.0)], at=2.0)
        assert store.keys() == {"key"}
    frame = Results(path).to_pandas()
    assert list(zip(frame.metric, frame.value, strict=True)) == [("time", 3.0)]
    assert len(Results(path).to_pandas(superseded=True)) == 3


def test_what_was_measured_again_supersedes(path: Path) -> None:
    with Store(path) as store:
        for key, value in (("old", 1.0), ("new", 2.0)):
            store.add(known(key), CELL, [Record(CELL, "time", value)])
        store.add(known("other", {"cpu": "two"}), CELL, [Record(CELL, "time", 3.0)])
    assert sorted(Results(path).to_pandas().value) == [2.0, 3.0]
    assert sorted(Results(path).to_pandas(superseded=True).value) == [1.0, 2.0, 3.0]
    assert len(Results(path)) == 3


def test_a_cell_is_stored_whole_or_not_at_all(path: Path) -> None:
    twice = [Record(CELL, "time", 1.0), Record(CELL, "time", 2.0)]
    with Store(path) as store:
        with pytest.raises(StoreError, match="UNIQUE"):
            store.add(known("key"), CELL, twice)
        assert store.keys() == set()
        store.add(known("key"), CELL, twice[:1])
    assert len(Results(path)) == 1


def foreign_text(path: Path) -> None:
    path.write_text("Dear diary, " * 100)


def foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE diary (entry TEXT)")
    db.close()


def newer(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()


def older(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={READABLE_SCHEMA - 1}")
    db.close()


def test_a_file_of_the_schema_before_is_read_and_brought_up_to_date(path: Path) -> None:
    cells = [replace(CELL, variant=name) for name in ("identity", "(chance)", "planted")]
    with Store(path) as store:
        for cell in cells:
            store.add(known(cell.variant), cell, [Record(cell, "time", 1.0)])
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE cells DROP COLUMN control")
        db.execute(f"PRAGMA user_version={READABLE_SCHEMA}")
    db.close()
    before, frame = path.read_bytes(), Results(path).to_pandas()
    assert list(frame.control) == [True, True, False]
    assert path.read_bytes() == before  # reading changes nothing
    with Store(path) as store:
        assert len(store.keys()) == 3
        store.add(known("more"), replace(CELL, variant="more"), [Record(CELL, "time", 2.0)])
    after = Results(path).to_pandas()
    assert list(after.control) == [True, True, False, False]
    assert after.iloc[:3].equals(frame)


def half_written(path: Path) -> None:
    """Cut off in the middle, as by a crash of the machine or a copy that broke off."""
    with Store(path) as store:
        for i in range(100):
            store.add(known(f"{i}"), replace(CELL, extra={"i": i}), [Record(CELL, "time", 1.0)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def trapped(path: Path) -> None:
    """A stranger's file that would have a trigger run when it is written to."""
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER trap AFTER INSERT ON cells BEGIN DELETE FROM records; END")
    db.close()


def disguised(path: Path) -> None:
    """A stranger's file in which a view stands where a table should."""
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE records")
        db.execute("CREATE VIEW records AS SELECT load_extension('/lib/evil.so') AS cell")
    db.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (older, f"written by an older bakeoff (schema {READABLE_SCHEMA - 1}, this one reads"),
        (half_written, "malformed; what was stored before is untouched"),
        (trapped, "it holds the trigger 'trap', which bakeoff never makes; it was not touched"),
        (disguised, "it holds the view 'records', which bakeoff never makes"),
        (foreign_text, "file is not a database; what was stored before is untouched"),
        (foreign_database, "this is no results file of bakeoff; it was not touched"),
        (
            newer,
            f"written by a newer bakeoff (schema {SCHEMA_VERSION + 1}, "
            f"this one reads {SCHEMA_VERSION})",
        ),
    ],
)
@pytest.mark.parametrize("opening", [Store, Results])
def test_what_is_not_ours_is_not_touched(path: Path, make, message: str, opening) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        opening(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert path.read_bytes() == before


def test_where_there_is_none(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such results file; `bakeoff run` makes one"):
        bakeoff.open_results(path)


def test_where_it_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"unable to open database file.*--results"):
        Store(tmp_path / "no" / "such" / "folder.sqlite")


WRITER = """
import sys
from bakeoff.suites.store import Store
sys.path.insert(0, {tests!r})
from test_store import CELL, known
from bakeoff.suites.records import Record
from dataclasses import replace
with Store({path!r}) as store:
    for i in range({count}):
        cell = replace(CELL, extra={{"i": i, "who": {who!r}}})
        records = [Record(cell, "time", float(i)), Record(cell, "ratio", 1.0)]
        store.add(known(f"{who}-{{i}}"), cell, records)
        print(i, flush=True)
"""


def writer(path: Path, who: str, count: int) -> subprocess.Popen[str]:
    """A process that stores cells and says so after each."""
    script = WRITER.format(tests=str(Path(__file__).parent), path=str(path), who=who, count=count)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("patience", [0.0, 0.02, 0.1])
def test_nothing_acknowledged_is_lost_by_a_kill(path: Path, patience: float) -> None:
    process = writer(path, "one", 10**6)
    assert process.stdout
    process.stdout.readline()
    time.sleep(patience)
    process.send_signal(signal.SIGKILL)
    told = process.stdout.read().split("\n")[:-1]
    process.stdout.close()
    process.wait()
    acknowledged = int(told[-1]) + 1 if told else 1
    frame = Results(path).to_pandas()
    stored = frame.groupby("extra").metric.count()
    assert acknowledged <= len(stored) <= acknowledged + 1
    assert set(stored) == {2}, "a cell is stored whole"
    with Store(path) as store:  # and the file can be written on
        assert len(store.keys()) == len(stored)


def test_two_writers_and_a_reader(path: Path) -> None:
    Store(path).close()
    writers = [writer(path, who, 60) for who in ("one", "two")]
    counts = []
    while any(process.poll() is None for process in writers):
        counts.append(len(Results(path)))
        time.sleep(0.02)
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    assert counts == sorted(counts)
    assert len(Results(path)) == 2 * 60 * 2


FILLER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # a disk of 300 kB
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files is limited on Linux")
def test_a_full_disk_is_told_and_costs_nothing_that_was_stored(path: Path) -> None:
    script = FILLER + WRITER.format(
        tests=str(Path(__file__).parent), path=str(path), who="one", count=10**5
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bakeoff.suites.store.StoreError: ")
    assert "what was stored before is untouched" in last
    assert "that the disk is not full" in last
    acknowledged = len(done.stdout.split())
    assert acknowledged > 10
    stored = Results(path).to_pandas().groupby("extra").metric.count()
    assert acknowledged <= len(stored) <= acknowledged + 1
    assert set(stored) == {2}


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_written(path: Path) -> None:
    Store(path).close()
    path.chmod(0o400)
    with pytest.raises(StoreError, match="readonly"), Store(path) as store:
        store.add(known("key"), CELL, [Record(CELL, "time", 1.0)])
