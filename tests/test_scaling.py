"""How costs grow: fits, crossovers and counts against what is known, and false declarations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins import changed, write
from torch.utils.flop_counter import FlopCounterMode

import bakeoff
from bakeoff import Case, Catalog, Shape
from bakeoff.suites import counting
from bakeoff.suites.counting import counted, will_not_fit
from bakeoff.suites.growth import crossover, fit, grows_as, slope
from bakeoff.suites.peaks import peak_bytes
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

LENGTHS = [128, 256, 512, 1024, 2048, 4096]
CASE = Case(kind="attention", shape=Shape(1, 4, 4, 512, 512, 64, 64), pattern="self")


# Fits


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.floats(0.5, 3.0),
    factor=st.floats(1e-9, 1e-6),
    share=st.floats(0.0, 0.8),
    count=st.integers(4, 6),
)
def test_a_law_is_found_again(exponent: float, factor: float, share: float, count: int) -> None:
    """A constant of up to four fifths of the first time."""
    lengths = LENGTHS[:count]
    constant = share / (1 - share) * factor * lengths[0] ** exponent
    found = fit(lengths, [constant + factor * n**exponent for n in lengths])
    assert found is not None
    assert found.exponent == pytest.approx(exponent, abs=0.05)


@pytest.mark.parametrize("constant", [0.0, 2e-5])
def test_the_interval_of_an_exponent_covers_the_truth(constant: float) -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        noise = np.exp(generator.normal(0, 0.05, len(LENGTHS)))
        times = (constant + 1e-9 * np.array(LENGTHS) ** 2.0) * noise
        found = fit(LENGTHS, list(times))
        assert found is not None
        covered += found.low <= 2.0 <= found.high
    assert covered >= 0.88 * 200


def test_three_lengths_are_too_few() -> None:
    assert fit(LENGTHS[:3], [1.0, 2.0, 3.0]) is None


def test_slopes() -> None:
    assert slope([1, 2, 4], [9.0, 3.0, 24.0]) == 3.0
    assert slope([1, 2], [0.0, 5.0]) == 0.0


@pytest.mark.parametrize(
    ("declared", "power", "holds"),
    [
        ("N", 1.0, True), ("N", 1.5, False), ("N", 2.0, False), ("N", 0.7, True),
        ("N^2", 2.0, True), ("N^2", 1.6, True), ("N^2", 1.0, False),
        ("N sqrt N", 1.5, True), ("N sqrt N", 2.0, False),
        ("1", 0.0, True), ("1", 1.0, False), ("N log N", 1.13, True), ("N log N", 2.0, False),
    ],
)  # fmt: skip
def test_growth_is_judged(declared: str, power: float, holds: bool) -> None:
    costs = [float(n) ** power for n in (1024, 2048)]
    assert grows_as(declared, [1024, 2048], costs, may_lag=0.5) is holds


# Crossovers


def verdict_at(truth: float, blur: float = 1.0) -> Callable[[int], str]:
    """A rival that overtakes at a length; too close to call within a factor of it."""

    def verdict(n: int) -> str:
        if n > truth * blur:
            return "faster"
        return "slower" if n < truth / blur else "undecided"

    return verdict


@pytest.mark.parametrize("truth", [130.0, 300.0, 1000.0, 4000.0])
def test_a_crossover_is_bracketed(truth: float) -> None:
    verdict = verdict_at(truth)
    found = crossover({n: verdict(n) for n in LENGTHS}, verdict)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= truth <= found.high
    assert found.high / found.low <= 1.1


def test_a_crossover_that_noise_hides_keeps_a_wide_interval() -> None:
    verdict = verdict_at(300.0, blur=1.3)
    found = crossover({n: verdict(n) for n in LENGTHS}, verdict)
    assert (found.low, found.high) == (256, 512)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["faster"] * 3, "below the grid"),
        (["slower"] * 3, "none up to 512"),
        (["slower", "faster", "slower"], "none up to 512"),
        (["slower", "no difference", "no difference"], "none up to 512"),
        (["slower", "slower", "undecided"], "undecided"),
    ],
)
def test_where_there_is_no_crossover(verdicts: list[str], said: str) -> None:
    def never(n: int) -> str:
        raise AssertionError("nothing to bisect")

    found = crossover(dict(zip(LENGTHS, verdicts, strict=False)), never)
    assert (found.value, found.said) == (None, said)


def test_an_early_win_that_is_lost_again_is_no_crossover() -> None:
    verdicts = dict(zip(LENGTHS, ["faster", "slower", "slower", "faster"], strict=False))
    found = crossover(verdicts, verdict_at(700))
    assert found.low is not None
    assert found.low >= 512


# Counts


def flops(call: Callable[[], object]) -> int:
    """With what torch leaves out."""
    with FlopCounterMode(display=False, custom_mapping=counting._UNCOUNTED) as counter:
        call()
    return int(counter.get_total_flops())


def test_flops_of_dense_attention(catalog: Catalog) -> None:
    """4·B·H·N²·D forward, and twice that backward."""
    variant, once = catalog["scaled_dot_product"], 4 * 4 * 512**2 * 64
    for forward in ("reference", "sdpa", "tiled"):
        assert counted(variant, forward, CASE).flops == once
    trained = replace(CASE, direction="training")
    assert counted(variant, "reference", trained).flops == 3 * once
    # A fused backward makes the scores once more: five products after two.
    assert counted(variant, "sdpa", trained).flops == once + 5 * once / 2


def _added(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A product that is added to what is as large as it."""

    def call(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        plain = name.removesuffix("_")
        product = one @ other if plain != "addbmm" else (one @ other).sum(0)
        if plain == name:
            return getattr(torch, plain)(product, one, other)
        return getattr(product, name)(one, other)

    return call


@pytest.mark.parametrize("name", ["mv", "dot", "vdot"])
def test_products_with_a_vector_are_counted(name: str) -> None:
    one = torch.ones(3, 5) if name == "mv" else torch.ones(5)
    assert flops(lambda: getattr(torch, name)(one, torch.ones(5))) == 2 * one.numel()


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        *((name, ((3, 5), (5,))) for name in ("addmv", "addmv_")),
        *((name, ((3, 5), (5, 2))) for name in ("addmm", "addmm_")),
        *((name, ((4, 3, 5), (4, 5, 2))) for name in ("addbmm", "addbmm_", "baddbmm", "baddbmm_")),
    ],
)
def test_products_that_are_added_are_counted(
    name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    """Twice: the product by itself, and the one that is added to it."""
    one, other = map(torch.ones, shapes)
    assert flops(lambda: _added(name)(one, other)) == 2 * flops(lambda: one @ other)


def test_counted_peaks_are_those_that_were_measured(catalog: Catalog) -> None:
    """Where no kernel takes scratch memory, the prediction is exact."""
    variant = catalog["scaled_dot_product"]
    q, k, v = (torch.randn(1, 4, 512, 64) for _ in range(3))
    with torch.no_grad():
        found = peak_bytes(lambda: variant.forward("reference").fn(q, k, v))
    assert counted(variant, "reference", CASE).peak_bytes == found


def test_counting_allocates_nothing_and_leaves_compiled_functions_alone(catalog: Catalog) -> None:
    shape = Shape(1, 4, 4, 65536, 65536, 64, 64)
    huge = counted(catalog["scaled_dot_product"], "reference", replace(CASE, shape=shape))
    assert huge.peak_bytes > 2 * 4 * 65536**2 * 4


def test_what_cannot_fit_is_predicted(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "available_bytes", lambda device: 2**30)
    variant, long = catalog["scaled_dot_product"], Shape(1, 4, 4, 16384, 16384, 64, 64)
    reason = will_not_fit(variant, "reference", replace(CASE, shape=long))
    assert reason == "predicted, not tried: it would hold 8.0 GiB at once, 1.0 GiB are allowed"
    assert will_not_fit(variant, "sdpa", replace(CASE, shape=long)) is None
    assert will_not_fit(variant, "reference", CASE) is None


def test_a_predicted_oom_is_a_row(tmp_path: Path) -> None:
    results = bakeoff.run(
        ("memory", "speed"), results=tmp_path / "r.sqlite", variants="scaled_dot_product",
        seq_lens=4096, head_dims=16, patterns="self", directions="forward",
        memory_limit=2**29, budget=0.1,
    )  # fmt: skip
    frame = results.to_pandas()
    rows = frame[frame.forward == "reference"]
    assert list(rows.status) == ["oom", "oom"]
    assert rows.reason.str.startswith("predicted, not tried: it would hold 0.5 GiB").all()
    assert set(frame[frame.forward == "sdpa"].status) == {"ok"}


# The suite

DECLARES = changed(
    ('forwards={"reference": reference}', 'forwards={"reference": Forward(reference, DECLARED)}')
)


def scaled(tmp_path: Path, declared: str, **given: Any):
    source = DECLARES.replace("DECLARED", declared)
    results = bakeoff.run(
        "scaling", results=tmp_path / "r.sqlite", plugins=[write(tmp_path, "mine.py", source)],
        variants="planted", **{"patterns": "self", "budget": 0.3, **given},
    )  # fmt: skip
    return results.to_pandas().set_index("metric")


@pytest.mark.parametrize(
    ("declared", "metric", "status", "reason"),
    [
        ('complexity="N^2", memory="N^2"', "flops_exponent", "ok", "declared N^2, from"),
        ('complexity="N^2", memory="N^2"', "bytes_exponent", "ok", "declared N^2, from"),
        ('complexity="N"', "flops_exponent", "wrong", "declared N, from 2048 to 4096"),
        ('memory="N"', "bytes_exponent", "wrong", "declared N, from 2048 to 4096"),
        ("flops=lambda case: 1e6", "flops_declared", "wrong", "declared 1e+06, counted 8.59e+09"),
        ("flops=lambda case: 2e10", "flops_declared", "wrong", "declared 2e+10, counted"),
        ("flops=lambda case: 4.0 * 2 * 64 * case.seq_len**2", "flops_declared", "ok", "declared"),
        ("min_bytes=lambda case: 1e15", "bytes_declared", "wrong", "declared at least 1e+15"),
        ("min_bytes=lambda case: 1e3", "bytes_declared", "ok", "declared at least 1000"),
    ],
)
def test_declared_costs_are_judged(
    tmp_path: Path, declared: str, metric: str, status: str, reason: str
) -> None:
    plugin = write(tmp_path, "mine.py", DECLARES.replace("DECLARED", declared))
    catalog = bakeoff.load([plugin], entry_points=False, pyproject=False)
    suite = suites_of(catalog, ["scaling"])["scaling"]
    selection = selection_for("quick", "scaling", {"variants": ("planted",), "seq_lens": (64,)})
    counts = next(iter(suite.plan(catalog, selection)))
    found = {r.metric: r for r in suite.measure(replace(counts, catalog=catalog))}
    assert found[metric].status == status
    assert found[metric].reason.startswith(reason)


def test_what_cannot_be_counted_is_no_fault(tmp_path: Path) -> None:
    reads = changed(("    scores = q @", "    assert float(q.sum()) < 1e9\n    scores = q @"))
    plugin = write(tmp_path, "mine.py", reads)
    catalog = bakeoff.load([plugin], entry_points=False, pyproject=False)
    suite = suites_of(catalog, ["scaling"])["scaling"]
    selection = selection_for("check", "scaling", {"variants": ("planted",)})
    counts = next(iter(suite.plan(catalog, selection)))
    found = list(suite.measure(replace(counts, catalog=catalog)))
    assert {r.status for r in found} == {"unsupported"}
    assert all(r.reason.startswith("not to be counted without numbers: ") for r in found)


def test_times_over_few_lengths_are_undetermined(tmp_path: Path) -> None:
    frame = scaled(tmp_path, 'complexity="N^2"', seq_lens=(32, 64, 128), directions="forward")
    exponent = frame.loc["time_exponent"]
    assert math.isnan(exponent.value)
    assert exponent.reason == "undetermined: 3 lengths, at least 4 are needed"
    assert "crossover_length" in frame.index


def test_times_give_an_exponent_and_slow_lengths_are_left_out(tmp_path: Path) -> None:
    lengths = (32, 64, 128, 256, 512, 65536)
    row = scaled(tmp_path, 'complexity="N^2"', seq_lens=lengths).loc["time_exponent"]
    assert row.n == 5
    assert "N = 65536 and above would take longer than the budget of 0.3 s" in row.reason
    assert math.isnan(row.value) or row.low <= row.value <= row.high


def test_a_rival_that_fails_at_a_length_costs_only_itself(tmp_path: Path) -> None:
    source = changed(
        ("causal=False, scale=None):\n",
         "causal=False, scale=None):\n    if q.shape[2] == 64: raise ValueError('planted')\n"),
    )  # fmt: skip
    results = bakeoff.run(
        "scaling", results=tmp_path / "r.sqlite", plugins=[write(tmp_path, "mine.py", source)],
        variants=("planted", "dot_product"), patterns="self", budget=0.2, directions="forward",
        seq_lens=(32, 64, 128, 256),
    )  # fmt: skip
    frame = results.to_pandas()
    times = frame[frame.extra.str.contains("times")]
    planted = times[times.variant == "planted"]
    assert list(planted.status) == ["failed"]
    assert planted.reason.iloc[0] == "N = 64: ValueError: planted"
    assert set(times[times.variant == "dot_product"].status) == {"ok"}
