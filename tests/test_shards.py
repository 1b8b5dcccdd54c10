"""Shards and their merge, two runs on one file, and why a cell is measured again."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from plugins import changed, write
from test_run import measured

import bakeoff
from bakeoff.suites import environment as environments
from bakeoff.suites import identity
from bakeoff.suites.explain import STORED
from bakeoff.suites.identity import Identified
from bakeoff.suites.planning import planned
from bakeoff.suites.records import AXES, Cell, Record
from bakeoff.suites.store import Results, Store

WHAT: dict[str, Any] = {"variants": ("relu", "gelu", "tanh", "plain"), "seq_lens": (8, 16)}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results.sqlite"


def cells_of(frame: pd.DataFrame) -> set[tuple[str, ...]]:
    return set(map(tuple, frame[[*AXES, "metric"]].astype(str).values.tolist()))


# Shards


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("suite", ["accuracy", "speed", "scaling"])
def test_shards_share_out_every_job_once(catalog: bakeoff.Catalog, suite: str, count: int) -> None:
    def jobs(shard: tuple[int, int]) -> list[tuple[Cell, ...]]:
        found = planned(catalog, suite, "quick", {"kinds": "attention"}, shard)
        return [job.cells for job in found if not job.for_others]

    whole = jobs((1, 1))
    parts = [jobs((i, count)) for i in range(1, count + 1)]
    assert sorted(map(repr, whole)) == sorted(repr(job) for part in parts for job in part)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert jobs((1, count)) == parts[0], "the same part each time"


def test_what_serves_all_is_in_every_shard(catalog: bakeoff.Catalog) -> None:
    for shard in ((1, 2), (2, 2)):
        jobs = planned(catalog, "speed", "quick", {"kinds": "activation"}, shard)
        assert sum(job.for_others for job in jobs) == 1


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_there_is_not(catalog: bakeoff.Catalog, shard: tuple[int, int]) -> None:
    message = f"shard: got {shard[0]}/{shard[1]}, expected i/N with i from 1 to N"
    with pytest.raises(bakeoff.UsageError, match=message):
        planned(catalog, "memory", "quick", {}, shard)


def test_merged_shards_have_the_cells_of_the_whole(path: Path) -> None:
    whole, _ = measured(path, suites="accuracy", **WHAT)
    parts = [path.with_name(f"{i}.sqlite") for i in (1, 2, 3)]
    for i, part in enumerate(parts, start=1):
        measured(part, suites="accuracy", shard=(i, 3), **WHAT)
    merged = bakeoff.merge(parts, path.with_name("merged.sqlite"))
    frame = Results(path.with_name("merged.sqlite")).to_pandas()
    assert cells_of(frame) == cells_of(whole)
    assert (merged.again, merged.same) == (0, 0)
    # A run over the merged file has nothing left to do.
    _, seen = measured(path.with_name("merged.sqlite"), suites="accuracy", **WHAT)
    assert seen.cells == []


# Merge

CELL = Cell("speed", 1, "planted", "fast", bakeoff.Case(
    kind="activation", shape=bakeoff.FeatureShape(1, 8, 8)
))  # fmt: skip


def file(path: Path, *values: tuple[str, float, float]) -> Path:
    with Store(path) as store:
        for key, value, at in values:
            cell = replace(CELL, extra={"key": key})
            store.add(
                Identified(key, "", "", {"cpu": "x"}), cell, [Record(cell, "time", value)], at
            )
    return path


def test_what_was_measured_twice_is_kept_twice_and_told(path: Path) -> None:
    one = file(path.with_name("1.sqlite"), ("a", 1.0, 10.0), ("b", 2.0, 11.0))
    two = file(path.with_name("2.sqlite"), ("a", 3.0, 12.0), ("c", 4.0, 13.0))
    merged = bakeoff.merge([one, two], path)
    assert (merged.cells, merged.again, merged.same) == (4, 1, 0)
    assert sorted(Results(path).to_pandas(superseded=True).value) == [1.0, 2.0, 3.0, 4.0]
    assert sorted(Results(path).to_pandas().value) == [2.0, 3.0, 4.0], "the later one is shown"
    again = bakeoff.merge([one, two], path)
    assert (again.cells, again.same) == (0, 4), "merging once more adds nothing"


def test_the_later_one_is_shown_whatever_the_order(path: Path) -> None:
    old = file(path.with_name("old.sqlite"), ("a", 1.0, 10.0))
    new = file(path.with_name("new.sqlite"), ("a", 2.0, 20.0))
    bakeoff.merge([new, old], path)
    assert list(Results(path).to_pandas().value) == [2.0]


def test_a_file_that_cannot_be_read_adds_nothing(path: Path) -> None:
    one = file(path.with_name("1.sqlite"), ("a", 1.0, 10.0))
    bad = path.with_name("bad.sqlite")
    bad.write_text("Dear diary")
    with pytest.raises(bakeoff.BakeoffError, match=r"bad\.sqlite: file is not a database"):
        bakeoff.merge([one, bad], path)
    assert not path.exists()


def test_a_file_is_not_merged_into_itself(path: Path) -> None:
    one = file(path, ("a", 1.0, 10.0))
    with pytest.raises(bakeoff.UsageError, match="is both a file to read and the one to write"):
        bakeoff.merge([one], path)
    with pytest.raises(bakeoff.UsageError, match="got no file"):
        bakeoff.merge([], path)


def test_merging_leaves_the_sources_alone(path: Path) -> None:
    one = file(path.with_name("1.sqlite"), ("a", 1.0, 10.0))
    before = one.read_bytes()
    bakeoff.merge([one], path)
    assert one.read_bytes() == before


# Two runs at once


def test_two_runs_at_once_on_one_file(path: Path) -> None:
    failed: list[BaseException] = []

    def go(variants: tuple[str, ...]) -> None:
        try:
            measured(path, **{**WHAT, "variants": variants})
        except BaseException as error:
            failed.append(error)

    both = (("relu", "gelu"), ("tanh", "gelu"))
    threads = [threading.Thread(target=go, args=(variants,)) for variants in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    frame = Results(path).to_pandas()
    assert set(frame.variant) == {"relu", "gelu", "tanh"}
    assert not frame.duplicated([*AXES, "metric"]).any()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Explaining


def reasons(path: Path, **given: Any) -> set[str]:
    found = bakeoff.explain("memory", results=path, **{"variants": "relu", "seq_lens": 16, **given})
    return {one.reason for one in found}


def test_what_is_new_and_what_is_stored(path: Path) -> None:
    assert reasons(path) == {"never measured in this file"}
    assert not path.exists(), "explaining makes no file"
    measured(path)
    assert reasons(path) == {STORED}
    assert reasons(path, seq_lens=(16, 32)) == {STORED, "never measured in this file"}


def test_a_changed_source_is_told(path: Path) -> None:
    plugin = write(path.parent, "mine.py")
    given = {"plugins": [plugin], "variants": "planted", "directions": "forward"}
    measured(path, **given)
    assert reasons(path, **given) == {STORED}
    write(path.parent, "mine.py", changed(("* slope", "* slope * 1.0")))
    assert reasons(path, **given) == {
        "the source of planted, or of what it calls or is compared with, changed"
    }


def test_another_machine_and_another_allocator_are_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(path)
    assert all(
        reason.startswith("malloc is {'MALLOC_MMAP_THRESHOLD_'")
        for reason in reasons(path, malloc="tuned")
    )
    other = {**environments.environment(), "cpu": "another", "torch": "9.9"}
    monkeypatch.setattr(identity, "environment", lambda *_: other)
    (reason,) = reasons(path)
    assert reason.startswith("cpu is another now, was ")
    assert "; torch is 9.9 now, was " in reason
