"""Reports of launches, of scaling, of the machine and of allocators, from planted records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.reports.contents import Contents, contents_of
from bakeoff.reports.document import document
from bakeoff.reports.text import terminal
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.store import Results, Store

CASE = Case(kind="attention", shape=Shape(1, 4, 4, 512, 512, 64, 64), pattern="self")
MACHINE = {"cpu": "one", "malloc": {}}


def contents(
    path: Path, cells: Iterable[Sequence[Record]], machine: dict[str, Any] = MACHINE
) -> Contents:
    """The contents of a results file with these cells added."""
    with Store(path) as store:
        for records in cells:
            key = repr([records[0].cell.axes(), machine])
            store.add(Identified(key, "", "", machine), records[0].cell, records)
    return contents_of(Results(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def told(found: Contents) -> str:
    return terminal(document(found, wide=False))


# Launches


def launches(values: Sequence[float], name: str = "fast", **extra: Any) -> list[list[Record]]:
    found = []
    for i, value in enumerate(values, start=1):
        cell = Cell("speed", 2, name, "torch", CASE, {"launch": i, **extra})
        ratio = Record(cell, "ratio", value, "", value * 0.99, value * 1.01, 50, reason="to b:c")
        found.append([ratio, Record(cell, "noise_floor", 1.0 + i / 100, n=50)])
    return found


def ratio_of(found: Contents, name: str = "fast"):
    (table,) = [t for t in found.places[0].kinds[0].speed if t.metric == "ratio"]
    return table.entries[f"{name}:torch", 512]


def test_launches_become_one_row_with_the_interval_between_them(path: Path) -> None:
    entry = ratio_of(contents(path, launches([0.8, 0.9, 1.0, 1.1])))
    logs = np.log([0.8, 0.9, 1.0, 1.1])
    assert entry.value == pytest.approx(math.exp(logs.mean()))
    reach = 3.1824 * logs.std(ddof=1) / 2  # Student's t of three degrees of freedom
    assert entry.low == pytest.approx(math.exp(logs.mean() - reach), rel=1e-4)
    assert entry.high == pytest.approx(math.exp(logs.mean() + reach), rel=1e-4)
    assert entry.n == 4
    assert entry.floor == pytest.approx((1.01 * 1.02 * 1.03 * 1.04) ** 0.25)
    # Each launch by itself would have told a difference.
    assert entry.difference == "undecided"


def test_launches_that_agree_decide(path: Path) -> None:
    entry = ratio_of(contents(path, launches([0.80, 0.81, 0.79, 0.80, 0.80])))
    assert entry.difference == "faster"


def test_a_launch_that_failed_stands_for_all(path: Path) -> None:
    cells = launches([0.8, 0.9, 1.0])
    failed = whole_cell(cells[1][0].cell, Status.CRASHED, "killed by SIGSEGV")
    cells[1] = [failed]
    found = contents(path, [*cells, *launches([1.0, 1.0, 1.0], "other")])
    assert "killed by SIGSEGV" in told(found)


def test_launches_of_different_caches_are_not_pooled(path: Path) -> None:
    found = contents(path, [*launches([0.8, 0.9]), *launches([0.5, 0.6], cache="cold")])
    ratios = [t for t in found.places[0].kinds[0].speed if t.metric == "ratio"]
    values = sorted(t.entries["fast:torch", 512].value for t in ratios)
    assert values == pytest.approx([math.sqrt(0.3), math.sqrt(0.72)])
    assert "launches 2" in told(found)


# Scaling


def growth(name: str, check: str, direction: str = "forward", **found: Any) -> list[Record]:
    case = replace(CASE, direction=direction)
    cell = Cell("scaling", 1, name, "torch", case, {"check": check, "lengths": "128,512"})
    return [Record(cell, metric, **values) for metric, values in found.items()]


def test_growth_stands_in_one_table(path: Path) -> None:
    declared = {"reason": "declared N, from 256 to 512"}
    found = contents(
        path,
        [
            growth("linear", "counts", flops_exponent={"value": 1.0, **declared}),
            growth("linear", "counts", "training", bytes_exponent={"value": 0.98, **declared}),
            growth(
                "linear", "times",
                time_exponent={"value": 1.1, "low": 1.0, "high": 1.2, "n": 4},
                crossover_length={"value": 400.0, "low": 390, "high": 410, "reason": "against b"},
            ),
            growth(
                "dense", "times",
                time_exponent={"value": None, "reason": "undetermined: 3 lengths, at least 4"},
                crossover_length={"value": None, "reason": "against b:c: none up to 512"},
            ),
        ],
    )  # fmt: skip
    text = told(found)
    section = text[text.index("How costs grow") :]
    linear, dense = (
        next(line for line in section.splitlines() if line.startswith(name)).split("  ")
        for name in ("linear:torch", "dense:torch")
    )
    words = [[w.strip() for w in line if w.strip()] for line in (linear, dense)]
    assert words[0] == ["linear:torch", "1.0 (N)", "1.0 (N)", "1.10 ± 0.10", "400 ±3%"]
    assert words[1] == ["dense:torch", "-", "-", "undetermined", "none to 512"]


def test_what_is_wrong_has_no_place_in_it(path: Path) -> None:
    wrong = {"value": 2.0, "status": Status.WRONG, "reason": "declared N, from 256 to 512"}
    found = contents(
        path,
        [
            growth("liar", "counts", flops_exponent=wrong),
            growth("liar", "times", time_exponent={"value": 2.0, "low": 1.9, "high": 2.1}),
            growth("right", "times", time_exponent={"value": 2.0, "low": 1.9, "high": 2.1}),
        ],
    )
    (scaling,) = found.places[0].kinds[0].scaling
    assert list(scaling.rows) == ["right:torch"]
    assert scaling.unranked == ("liar:torch",)
    assert "flops_exponent" in told(found)


# The machine, and the allocator


def test_ceilings_are_of_the_machine_and_of_no_variant(path: Path) -> None:
    rows = []
    for name, features, metric, unit, value in (
        ("matmul", 512, "flops_per_second", "1/s", 1.0e11),
        ("matmul", 1024, "flops_per_second", "1/s", 1.2e11),
        ("copy", 4096, "bytes_per_second", "bytes/s", 1.0e11),
        ("copy", 2**24, "bytes_per_second", "bytes/s", 4.0e10),
    ):
        shape = FeatureShape(1, 1, features)
        cell = Cell("speed", 2, "(machine)", name, Case(kind="machine", shape=shape))
        rows.append([Record(cell, metric, value, unit)])
    found = contents(path, [*rows, *launches([1.0])])
    assert [kind.name for kind in found.places[0].kinds] == ["attention"]
    assert found.places[0].ceilings == (
        "cpu, float32, 1 thread: matrix products 120 GFLOP/s; copies 100 GB/s, 40.0 GB/s, from "
        "what fits in the caches to what does not",
    )


def test_under_a_tuned_allocator_nothing_is_ranked_and_other_verdicts_are_told(
    path: Path,
) -> None:
    tuned = {**MACHINE, "malloc": {"MALLOC_TOP_PAD_": "1"}}
    system = contents(path, launches([1.3, 1.3, 1.3]))
    assert "Fastest" in told(system)
    assert system.differing == ()
    both = contents(path, launches([0.9, 0.9, 0.9]), tuned)
    (one,) = both.differing
    assert (one.rival, one.system, one.tuned) == (
        "fast:torch",
        (pytest.approx(1.3), "slower"),
        (pytest.approx(0.9), "faster"),
    )
    text = told(both)
    assert "Verdicts that depend on the allocator" in text
    assert text.count("Fastest") == 1
    assert "nothing is ranked here" in " ".join(text.split())
