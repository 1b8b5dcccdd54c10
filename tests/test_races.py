"""The speed suite's options, its reference kernel, the roofline, clocks and fresh processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import bakeoff
from bakeoff.suites.clocks import Clock, clock_for
from bakeoff.suites.machine import Rates, Work
from bakeoff.suites.statistics import LEAST_FLOOR, Estimate, floor_of, reached, spread

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def raced(path: Path, **given: Any) -> pd.DataFrame:
    defaults = {"variants": ("relu", "tanh"), "seq_lens": 16, "budget": 0.2}
    results = bakeoff.run("speed", results=path, **{**defaults, **given})
    return results.to_pandas()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Forward and training of two activations and an attention."""
    path = tmp_path_factory.mktemp("race") / "results.sqlite"
    frame = raced(path, variants=("relu", "tanh", "scaled_dot_product", "plain"), patterns="self")
    return frame[frame.status != "unsupported"]  # a forward may refuse a machine without a GPU


def test_every_cell_says_what_it_came_to(frame: pd.DataFrame) -> None:
    cells = frame[frame.kind != "machine"].groupby(["variant", "forward", "direction"])
    wanted = {
        "time", "ratio", "noise_floor", "precision", "spread", "kernel_ratio", "tokens_per_second",
    }  # fmt: skip
    for (*_, direction), rows in cells:
        assert wanted <= set(rows.metric)
        assert ("roofline_fraction" in set(rows.metric)) == (direction == "forward")
        assert set(rows.status) == {"ok"}
    interval = frame[frame.metric.isin(["time", "ratio", "kernel_ratio"])]
    assert (interval.low <= interval.value).all()
    assert (interval.value <= interval.high).all()
    assert (interval.n >= 3).all()


def test_the_baseline_is_one_and_rivals_say_to_whom_they_are_compared(
    frame: pd.DataFrame,
) -> None:
    ratios = frame[frame.metric == "ratio"]
    baseline = ratios[(ratios.variant == "relu") & (ratios.forward == "torch")]
    assert set(baseline.value) == {1.0}
    of_kind = dict(zip(ratios.kind, ratios.reason, strict=True))
    assert of_kind == {
        "activation": "to relu:torch",
        "attention": "to scaled_dot_product:sdpa",
        "connection": "to residual:reference",
    }


def test_what_was_reached_is_told(path: Path) -> None:
    strict = raced(path, precision=0.0001, directions="forward")
    told = strict[strict.metric == "precision"]
    told = told[(told.variant == "tanh")]
    assert set(told.reason) == {"asked for 0.0001, not reached within 0.2 s a race"}
    loose = raced(path.with_name("loose.sqlite"), precision=0.9, directions="forward")
    assert set(loose[loose.metric == "precision"].reason) == {""}


def test_another_baseline(path: Path) -> None:
    found = raced(path, baseline="tanh:torch", directions="forward")
    ratios = found[found.metric == "ratio"].set_index(["variant", "forward"])
    assert set(ratios.reason) == {"to tanh:torch"}
    assert ratios.loc[("tanh", "torch")].value == 1.0
    assert set(ratios.extra) == {'{"baseline":"tanh:torch"}'}
    # Beside the fixed one: the same cells with another baseline are measured too.
    both = raced(path, directions="forward")
    assert set(both[both.metric == "ratio"].reason) == {"to tanh:torch", "to relu:torch"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"baseline": "tanh"}, "baseline: got 'tanh', expected VARIANT:FORWARD, as relu:torch"),
        ({"baseline": "tanq:torch"}, "no variant is called 'tanq'; did you mean tanh?"),
        ({"baseline": "tanh:torc"}, "tanh has no forward 'torc'; did you mean torch?"),
        ({"precision": 3.0}, "precision: got 3.0, expected a share such as 0.03 for 3%"),
        ({"cache": "hot"}, "cache: got 'hot', expected warm or cold"),
        ({"launches": 0}, "launches: got 0, expected a number of at least 1"),
        ({"malloc": "tunned"}, "malloc: got 'tunned'; did you mean tuned?"),
    ],
)
def test_wrong_options(path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(bakeoff.BakeoffError) as caught:
        raced(path, **given)
    assert message in str(caught.value)
    assert not path.exists()


WHO = """
import os
from bakeoff import hookimpl, Activation, Metadata
def reference(x):
    with open("processes.txt", "a") as file:
        print(os.getpid(), os.getppid(), os.environ.get("MALLOC_TOP_PAD_"), file=file)
    return x * 1.0
@hookimpl
def bakeoff_variants():
    yield Activation("telling", forwards={"reference": reference}, metadata=Metadata(
        title="T", summary="T", formula="x", strengths="s", weaknesses="w", use_when="u",
        tags="hidden_layer"))
"""


def test_each_launch_is_a_process_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    plugin = path.with_name("telling.py")
    plugin.write_text(WHO)
    given = {"plugins": [plugin], "variants": "telling", "directions": "forward", "budget": 0.01}
    found = raced(path, launches=3, malloc="tuned", **given)
    assert set(found[found.variant == "telling"].extra) == {f'{{"launch":{i}}}' for i in (1, 2, 3)}
    lines = {
        tuple(line.split()) for line in path.with_name("processes.txt").read_text().splitlines()
    }
    pids, parents, pads = zip(*lines, strict=True)
    assert len(set(pids)) == 3
    assert len(set(parents)) == 1, "the run itself: no common parent that was forked"
    assert set(pads) == {str(2**26)}


def test_cold_caches_are_another_cell(path: Path) -> None:
    given = {"variants": "relu", "forwards": "torch", "seq_lens": 64, "directions": "forward"}
    warm, both = raced(path, **given), raced(path, cache="cold", **given)
    assert set(warm[warm.variant == "relu"].extra) == {"{}"}
    assert set(both[both.variant == "relu"].extra) == {"{}", '{"cache":"cold"}'}


def test_a_cold_clock_empties_the_caches_before_each_call() -> None:
    clock, seen = Clock(cold=True), []
    flush = clock._flush
    assert flush is not None
    assert flush.numel() * 4 >= 2**20, "at least a small cache"
    clock.sample(lambda: seen.append(float(flush[0])), 1)
    clock.sample(lambda: seen.append(float(flush[0])), 1)
    assert seen[1] == seen[0] + 1
    assert clock.least_sample == 0.0


@cuda
@pytest.mark.parametrize("cold", [False, True])
def test_events_time_what_the_device_does(cold: bool) -> None:
    x = torch.randn(4096, 4096, device="cuda")
    once = clock_for("cuda", cold).sample(lambda: x @ x, 5)
    assert once.seconds > 1e-4
    assert once.launching < 0.9


# The roofline


def test_ceilings_are_stored_once_and_serve_later_runs(path: Path) -> None:
    first = raced(path, directions="forward")
    machine = first[first.kind == "machine"]
    assert set(machine.forward) == {"matmul", "copy"}
    assert (machine.value > 1e8).all()
    again = raced(path, variants="gelu", directions="forward")
    assert len(again[again.kind == "machine"]) == len(machine)
    fraction = again[(again.variant == "gelu") & (again.metric == "roofline_fraction")]
    assert ((fraction.value > 0) & (fraction.value < 1.5)).all()
    assert set(fraction.reason) == {"memory binds"}


def test_the_limit_that_binds() -> None:
    rates = Rates(1e9, ((1e3, 1e10), (1e6, 1e9)))
    assert rates.least_seconds(Work(1e6, 1e3)) == (1e-3, "compute")
    assert rates.least_seconds(Work(1.0, 1e6)) == (pytest.approx(1e-3), "memory")
    assert rates.bandwidth(1e3) == pytest.approx(1e10)
    assert rates.bandwidth(math.sqrt(1e9)) == pytest.approx(math.sqrt(1e19))
    assert rates.bandwidth(1e9) == pytest.approx(1e9), "beyond the largest it stays"
    assert rates.bandwidth(1e3, cold=True) == pytest.approx(1e9), "from main memory"


def test_a_fraction_is_the_least_time_over_the_measured_one(frame: pd.DataFrame) -> None:
    rows = frame[(frame.kind == "attention") & (frame.direction == "forward")]
    for _, cell in rows.groupby("forward"):
        values = cell.set_index("metric").value
        flops = 4 * 4 * 16**2 * 64
        assert values["flops_per_second"] == pytest.approx(flops / values["time"], rel=1e-6)


# Numbers about numbers


def test_what_a_ratio_reached() -> None:
    assert reached(Estimate(1.0, 0.9, 1.02, 9)) == pytest.approx(1 / 0.9 - 1)
    assert floor_of(Estimate(1.0, 0.97, 1.01, 9)) == pytest.approx(1 / 0.97)
    assert floor_of(Estimate(1.0, 0.999, 1.001, 9)) == LEAST_FLOOR
    generator = np.random.default_rng(0)
    samples = np.exp(generator.normal(0, 0.1, 4000))
    samples[:40] *= 100
    assert spread(samples) == pytest.approx(0.105, abs=0.01)
