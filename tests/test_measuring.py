"""Bytes against arithmetic, intervals against the truth, budgets against planted errors."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from theory import SAVED, naive_peak, naive_saved, sdpa_saved

from bakeoff import Case, Catalog, FeatureShape, Shape
from bakeoff.suites.budget import Oracle, gradients_of, output_of
from bakeoff.suites.calls import Call
from bakeoff.suites.errors import LIMIT
from bakeoff.suites.peaks import peak_bytes, saved_bytes
from bakeoff.suites.race import FEW_ROUNDS, LEAST_ROUNDS, PRIMED_SECONDS, Race
from bakeoff.suites.records import Cell
from bakeoff.suites.statistics import median, median_ratio, rounds_for
from bakeoff.suites.tensors import arguments_for

MIB = 2**20
ATTENTION = Case(kind="attention", shape=Shape(2, 2, 2, 48, 48, 16, 16), pattern="self")
FEATURES = Case(kind="activation", shape=FeatureShape(2, 32, 64))


@pytest.fixture(autouse=True)
def one_thread():
    """Scratch memory depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Memory


def test_bytes_saved_by_every_activation(catalog: Catalog) -> None:
    rows, features = 64, 256
    found = {}
    for variant in catalog.select(kind="activation"):
        case = replace(FEATURES, shape=FeatureShape(1, rows, features), direction="training")
        case = replace(case, options=dict(variant.options))
        arguments = arguments_for(variant, case).requiring_grad()
        for name in variant.forwards:
            fn = variant.forward(name).fn
            call = functools.partial(arguments.call, fn)
            found[f"{variant.name}:{name}"] = saved_bytes(call)
    theory = {label: saved.of(rows, features) for label, saved in SAVED.items()}
    assert {label: found[label] for label in theory} == theory


def test_what_only_a_lost_part_of_the_graph_saved_is_not_kept() -> None:
    x = torch.randn(64, 64, requires_grad=True)
    assert saved_bytes(lambda: x.exp()) == x.numel() * 4
    assert saved_bytes(lambda: x + x.exp().detach()) == 0
    assert saved_bytes(lambda: x * x.exp().detach()) == x.numel() * 4, "the factor alone"


def attention_tensors(n: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(1, 4, n, 64) for _ in range(3))


@pytest.mark.parametrize("n", [256, 1024])
@pytest.mark.parametrize("direction", ["forward", "training"])
def test_peak_of_naive_attention(catalog: Catalog, n: int, direction: str) -> None:
    case = Case(kind="attention", shape=Shape(1, 4, 4, n, n, 64, 64), direction=direction)
    cell = Cell("memory", 1, "scaled_dot_product", "reference", replace(case, pattern="self"))
    call = Call.of(catalog["scaled_dot_product"], cell)
    training = direction == "training"
    run = call.training if training else call.forward
    assert peak_bytes(run) == naive_peak(4, n, 64, training=training)


def test_bytes_saved_by_attention(catalog: Catalog) -> None:
    n = 512
    tensors = [t.requires_grad_() for t in attention_tensors(n)]
    variant = catalog["scaled_dot_product"]
    naive = saved_bytes(lambda: variant.forward("reference").fn(*tensors))
    assert naive == naive_saved(4, n, 64)
    fused = saved_bytes(lambda: variant.forward("sdpa").fn(*tensors))
    assert fused == sdpa_saved(4, n, 64)


def test_peaks_are_exact_and_repeat() -> None:
    def call() -> torch.Tensor:
        first = torch.empty(MIB, dtype=torch.uint8)
        second = torch.empty(3 * MIB, dtype=torch.uint8)
        del first
        return torch.empty(MIB, dtype=torch.uint8) if second.numel() else second

    assert [peak_bytes(call) for _ in range(3)] == [4 * MIB] * 3
    held = torch.empty(5 * MIB, dtype=torch.uint8)
    assert peak_bytes(lambda: None) == 0
    assert peak_bytes(call) == 4 * MIB
    del held


def test_sliding_window_is_linear_in_bytes(catalog: Catalog) -> None:
    fn = catalog["sliding_window"].forward("chunked").fn
    peaks = []
    for n in (1024, 4096):
        tensors = [t.requires_grad_() for t in attention_tensors(n)]

        def train(tensors: list[torch.Tensor] = tensors) -> object:
            return torch.autograd.grad(fn(*tensors, window=32).sum(), tensors)

        peaks.append(peak_bytes(train))
    assert peaks[1] / peaks[0] < 4.4
    assert peaks[1] < 4096 * 4096 * 4, "less than one matrix of scores"


# Statistics


def drifting(generator: np.random.Generator, n: int) -> np.ndarray:
    """Times of a machine that warms up and has company."""
    drift = 1 + 0.3 * np.linspace(0, 1, n)
    return drift * np.exp(generator.normal(0, 0.05, n))


@pytest.mark.parametrize("n", [7, 20, 60, 200])
def test_the_interval_covers_the_truth(n: int) -> None:
    generator = np.random.default_rng(0)
    truth, runs, covered = 1.1, 400, 0
    for i in range(runs):
        shared = drifting(generator, n)
        own = truth * shared * np.exp(generator.normal(0, 0.03, n))
        found = median_ratio(own, shared * np.exp(generator.normal(0, 0.03, n)), seed=i)
        covered += found.low <= truth <= found.high
    # Of 400 runs a 95% interval covers between 0.92 and 0.98 in 99.5% of all cases.
    assert 0.92 <= covered / runs <= 0.99


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_equals_are_equal(times: list[float]) -> None:
    found = median_ratio(np.array(times), np.array(times))
    assert (found.value, found.low, found.high, found.n) == (1.0, 1.0, 1.0, len(times))


@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_interval_holds_the_median(times: list[float]) -> None:
    found = median(np.array(times))
    assert found.low <= found.value <= found.high
    assert found == median(np.array(times)), "the same seed, the same interval"
    assert found.low > 0


def test_more_noise_needs_more_rounds() -> None:
    generator = np.random.default_rng(0)
    quiet, loud = generator.normal(0, 0.01, 7), generator.normal(0, 0.1, 7)
    assert rounds_for(0.03, quiet) < rounds_for(0.03, loud)
    assert rounds_for(0.03, loud) < rounds_for(0.01, loud)
    assert rounds_for(0.03, np.zeros(7)) == 0


# Races, with a clock that does as it is told


class Clock:
    """Time that passes as the laps say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        monkeypatch.setattr("time.perf_counter_ns", lambda: self.now)
        monkeypatch.setattr("time.perf_counter", lambda: self.now * 1e-9)

    def lap(self, seconds: float, ran: list[str], name: str):
        def call() -> None:
            ran.append(name)
            drift = 1 + self.now * 1e-9  # the machine gets slower and slower
            self.now += round(seconds * drift * 1e9)

        return lambda repeats: call


def test_a_race_cancels_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ran = Clock(monkeypatch), []
    laps = {n: clock.lap(s, ran, n) for n, s in {"a": 0.01, "twin": 0.01, "b": 0.02}.items()}
    race = Race(laps, "a", ("twin",), budget=5.0)
    race.run()
    assert median_ratio(*race.paired("b")).value == pytest.approx(2.0, rel=0.05)
    assert median_ratio(*race.paired("twin")).value == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.05, LEAST_ROUNDS), (1.0, FEW_ROUNDS)])
def test_a_slow_rival_runs_few_rounds_and_the_baseline_in_each(
    monkeypatch: pytest.MonkeyPatch, seconds: float, rounds: int
) -> None:
    clock, ran = Clock(monkeypatch), []
    times = {"a": 0.001, "twin": 0.001, "slow": seconds}
    laps = {n: clock.lap(s, ran, n) for n, s in times.items()}
    race = Race(laps, "a", ("twin",), budget=1.0)
    race.run()
    assert len(race.times["slow"]) == rounds
    assert ran.count("slow") <= rounds + 2, "the warm-up, and no pilot"
    assert set(race.times["slow"]) <= set(race.times["a"])
    assert set(race.times["a"]) == set(race.times["twin"])


def test_the_order_changes_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ran = Clock(monkeypatch), []
    laps = {n: clock.lap(PRIMED_SECONDS, ran, n) for n in "abcd"}
    race = Race(laps, "a", ("b",), budget=5.0)
    race.run()
    rounds = len(race.times["a"])
    last = ["".join(ran[i : i + 4]) for i in range(len(ran) - 4 * rounds, len(ran), 4)]
    assert all(sorted(order) == list("abcd") for order in last)
    assert len(set(last)) > rounds / 4


def test_short_calls_run_once_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first call after another's, which is slower, is out of the clock's sight."""
    clock = Clock(monkeypatch)
    last = ""

    def lap(name: str, seconds: float):
        def call() -> None:
            nonlocal last
            clock.now += round(seconds * (1 if last == name else 2) * 1e9)
            last = name

        return lambda repeats: call

    race = Race({"a": lap("a", 1e-3), "b": lap("b", 2e-3), "long": lap("long", 0.1)}, "a")
    race.run()
    assert set(race.times["a"].values()) == {1e-3}
    assert set(race.times["b"].values()) == {2e-3}
    assert max(race.times["long"].values()) == 0.2, "it is not primed"


# Calls


def call_of(catalog: Catalog, name: str, direction: str, mode: str = "eager") -> Call:
    case = replace(FEATURES, direction=direction, mode=mode, options=dict(catalog[name].options))
    return Call.of(catalog[name], Cell("speed", 1, name, "torch", case))


def test_each_backward_has_a_graph_of_its_own(catalog: Catalog) -> None:
    call = call_of(catalog, "gelu", "backward")
    run = call.timed(3)
    (first,), (second,), (third,) = run(), run(), run()
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert all(leaf.grad is None for leaf in call.arguments.leaves().values())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of torch.compile itself
def test_compiled_calls_stay_compiled(catalog: Catalog) -> None:
    """More than dynamo's limit of compilations for one function, and nothing is compiled again."""
    from torch._dynamo.utils import counters

    names = ("relu", "gelu", "silu", "tanh", "elu", "mish", "selu", "celu", "softsign", "sigmoid")
    calls = [call_of(catalog, name, "backward", "compiled") for name in names]
    graphs = counters["stats"]["unique_graphs"]
    for name, call in zip(names, calls, strict=True):
        found = call.timed(1)()
        expected = call_of(catalog, name, "backward").timed(1)()
        torch.testing.assert_close(found, expected)
        assert call.compile_seconds
        assert call.compile_seconds > 0.1, "from a cache"
    assert counters["stats"]["unique_graphs"] == graphs
    assert graphs >= len(names)


# Budgets


def ratio(catalog: Catalog, name: str, fn, measure=output_of, **case) -> float:
    base = ATTENTION if catalog[name].kind == "attention" else FEATURES
    return Oracle(catalog[name], replace(base, **case), measure).judge(fn)[0].ratio


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("inputs", ["normal", "peaked"])
def test_fused_kernels_pass(catalog: Catalog, dtype: str, inputs: str) -> None:
    for name, forward in (("scaled_dot_product", "sdpa"), ("gelu", "torch")):
        fn = catalog[name].forward(forward).fn
        given = {"dtype": dtype, "inputs": inputs}
        assert ratio(catalog, name, fn, **given) <= LIMIT
        assert ratio(catalog, name, fn, gradients_of, direction="training", **given) <= LIMIT


@pytest.mark.parametrize(("dtype", "planted"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_a_small_planted_error_is_seen(catalog: Catalog, dtype: str, planted: float) -> None:
    def off(q, k, v, **given):
        return F.scaled_dot_product_attention(q, k * (1 + planted), v)

    assert ratio(catalog, "scaled_dot_product", off, dtype=dtype) > LIMIT


def test_a_gradient_of_zero_has_a_budget(catalog: Catalog) -> None:
    """That of a key bias: softmax does not change when all scores do."""
    variant = catalog["multi_head"]
    case = replace(ATTENTION, direction="training")
    oracle = Oracle(variant, case, gradients_of)
    exact = max(float(draw.oracle["b_key"].abs().max()) for draw in oracle.draws)
    assert exact < 1e-12
    moments = oracle.moments["b_key"]
    assert moments.rms("moved") > 0.1 * moments.rms("own"), "not of the reference's luck alone"
    found = {e.name: e for e in oracle.judge(variant.forward("sdpa").fn)}
    assert 0.1 < found["b_key"].ratio <= LIMIT


def test_a_wrong_gradient_of_a_cancelling_sum_is_seen(catalog: Catalog) -> None:
    """The budget of the key bias must not let everything pass."""
    variant = catalog["multi_head"]
    fast = variant.forward("sdpa").fn

    def off(q, k, v, **given):
        given["b_key"] = given["b_key"] + 1e-4 * (given["b_key"] - given["b_key"].detach())
        return fast(q, k, v, **given) + 1e-5 * given["b_key"].sum()

    found = Oracle(variant, replace(ATTENTION, direction="training"), gradients_of).judge(off)
    assert found[0].name == "b_key"
    assert not found[0].right


def test_a_wrong_shape_is_told(catalog: Catalog) -> None:
    oracle = Oracle(catalog["relu"], FEATURES)
    with pytest.raises(ValueError, match=r"output has the shape \(2, 32, 63\), expected \(2, 32"):
        oracle.judge(lambda x: x[..., 1:])


def test_the_unit_of_the_budget_is_the_rounding_of_the_dtype(catalog: Catalog) -> None:
    budgets = {
        dtype: Oracle(catalog["gelu"], replace(FEATURES, dtype=dtype)).budget("output")
        for dtype in ("float64", "float32", "float16", "bfloat16")
    }
    assert budgets["float32"] / budgets["float64"] == pytest.approx(2.0**29, rel=0.5)
    assert budgets["bfloat16"] / budgets["float32"] == pytest.approx(2.0**16, rel=0.5)
    assert budgets["bfloat16"] / budgets["float16"] == pytest.approx(2.0**3, rel=0.5)


def test_draws_do_not_touch_the_global_generator(catalog: Catalog) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Oracle(catalog["additive"], ATTENTION, gradients_of)
    assert torch.equal(torch.rand(1), expected)
