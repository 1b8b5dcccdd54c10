"""Where a range ends, what cancels, and what hides a NaN: planted, beside what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_wrong_variants import described, right

import bakeoff
from bakeoff import Activation, Attention
from bakeoff.suites.elementwise import relative_accuracy, special_values
from bakeoff.suites.ranges import extreme, far_from_zero, large_scores
from bakeoff.suites.records import Status
from bakeoff.suites.verdicts import Check, Subject, Unsupported, Verdict

Function = Callable[..., Any]
CATALOG = bakeoff.load(entry_points=False, pyproject=False)
ACTIVATIONS = {
    name: variant
    for name, variant in CATALOG.items()
    if variant.kind == "activation" and "peer" not in variant.metadata.tags
}


def alone(fn: Function, check: Check, dtype: str = "float32") -> Verdict:
    properties = {"elementwise": True}
    variant = Activation(
        "planted", forwards={"reference": fn}, metadata=described(properties=properties)
    )
    return check(Subject(variant, "reference", dtype))


def attention(check: Check, fn: Function, name: str = "fast", dtype: str = "float32") -> Verdict:
    forwards = {"reference": right, "fast": fn} if name == "fast" else {"reference": fn}
    variant = Attention("planted", forwards=forwards, metadata=described())
    return check(Subject(variant, name, dtype))


def naive_mish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tanh(torch.log(1 + torch.exp(x)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_lone_reference_whose_range_ends(dtype: str) -> None:
    verdict = alone(naive_mish, extreme, dtype)
    assert verdict.status is Status.WRONG
    assert "size 1000: the gradient of x is not finite" in verdict.reason
    assert alone(F.mish, extreme, dtype).status is Status.OK


def test_in_float16_a_range_ends_somewhere() -> None:
    verdict = alone(lambda x: x.exp() / (1 + x.exp()), extreme, "float16")
    assert verdict.status is Status.UNDETERMINED
    verdict = alone(naive_mish, extreme, "float16")
    assert verdict.status is Status.UNDETERMINED
    assert "inputs of size 30: the gradient of x is not finite in" in verdict.reason


def features(positive: Function) -> Function:
    def forward(q, k, v, *, mask=None, causal=False, scale=None):
        weights = positive(q) @ positive(k).mT
        total = weights.sum(-1, keepdim=True)
        return weights @ v / total.masked_fill(total == 0, 1.0)

    return forward


def test_features_that_cancel() -> None:
    cancels, exact = features(lambda x: F.elu(x) + 1), features(_elu_plus_one)
    verdict = attention(far_from_zero, cancels, "reference")
    assert verdict.status is Status.UNDETERMINED
    assert verdict.reason.startswith("q about -20: in float32 the reference's own error is")
    assert attention(far_from_zero, exact, "reference").status is Status.OK


def _elu_plus_one(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def cut_at(limit: float) -> Function:
    def forward(q, k, v, *, mask=None, causal=False, scale=None):
        return ((q @ k.mT / q.shape[-1] ** 0.5).clamp(-limit, limit)).softmax(-1) @ v

    return forward


@pytest.mark.parametrize(("limit", "told"), [(100.0, "q times 30:"), (1e4, "q times 3000:")])
def test_scores_that_are_cut_off(limit: float, told: str) -> None:
    verdict = attention(large_scores, cut_at(limit))
    assert verdict.status is Status.WRONG
    assert verdict.reason.startswith(told)
    assert attention(large_scores, cut_at(1e30)).status is Status.OK


def test_what_rounding_alone_decides_is_not_judged() -> None:
    with pytest.raises(Unsupported, match="rounding the inputs alone decides all of these"):
        attention(large_scores, cut_at(1e30), dtype="bfloat16")


CANCELS = {
    "tanh": lambda x: 2 * torch.sigmoid(2 * x) - 1,
    "expm1": lambda x: x.exp() - 1,
    "log1p": lambda x: torch.log(1 + x.clamp(-0.5, 1).square()).sqrt(),
}


@pytest.mark.parametrize("fn", CANCELS.values(), ids=list(CANCELS))
def test_a_formula_that_cancels(fn: Function) -> None:
    assert alone(fn, relative_accuracy).status is Status.WRONG


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "fn",
    [
        torch.tanh,
        torch.expm1,
        F.gelu,
        torch.sigmoid,
        F.mish,
        F.hardswish,
        torch.sin,
        lambda x: torch.maximum(x, 0.1 * x),
        lambda x: x.abs() ** 1.5,
    ],
)
def test_what_torch_computes_is_accurate_enough(fn: Function, dtype: str) -> None:
    assert alone(fn, relative_accuracy, dtype).status is Status.OK


def test_how_much_of_a_tail_is_lost_is_told() -> None:
    erf = alone(lambda x: x * 0.5 * (1 + torch.erf(x * 0.5**0.5)), relative_accuracy)
    assert erf.status is Status.OK
    assert erf.value is not None
    assert erf.value > 1
    assert erf.reason.startswith("of the output most is lost at -")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("variant", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_a_built_in_reference_keeps_its_tails(variant: Activation, dtype: str) -> None:
    subject = Subject(variant, "reference", dtype)
    try:
        verdict = relative_accuracy(subject)
    except Unsupported:
        assert not variant.gated
        assert not variant.declared("elementwise")
        return
    assert verdict.status is Status.OK, verdict.reason
    assert verdict.value is not None
    assert verdict.value <= 1, verdict.reason


HIDES = [lambda x: torch.where(x > 0, x, 0.0), lambda x: F.silu(x).nan_to_num()]


@pytest.mark.parametrize("fn", HIDES)
def test_a_nan_that_is_hidden(fn: Function) -> None:
    verdict = alone(fn, special_values)
    assert verdict.status is Status.OK  # told, and not judged
    assert verdict.reason == "x = nan gives 0"


@pytest.mark.parametrize("variant", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_no_activation_of_ours_hides_a_nan(variant: Activation) -> None:
    if not variant.declared("elementwise") and not variant.gated:
        pytest.skip("only what goes element by element is asked")
    for forward in variant.forwards:
        assert not special_values(Subject(variant, forward)).reason


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("fn", [torch.relu, F.silu, F.gelu, lambda x: torch.where(x > 0, x, 0 * x)])
def test_special_values_of_what_is_right(fn: Function, dtype: str) -> None:
    assert alone(fn, special_values, dtype).status is Status.OK


def test_a_number_becomes_none() -> None:
    verdict = alone(lambda x: x * x / x.abs(), special_values)
    assert verdict.reason == "x = 0 gives nan, nan in float64"
    verdict = alone(lambda x: x * x * x / (x * x + 1), special_values)
    assert "gives inf" in verdict.reason


def test_a_row_of_entmax_may_hold_minus_infinity() -> None:
    reference = CATALOG["entmax15"].forward("reference").fn
    x = torch.tensor([[0.3, -torch.inf, 0.1, 2.0]], dtype=torch.float64, requires_grad=True)
    output = reference(x)
    output.square().sum().backward()
    assert x.grad is not None
    kept = x.detach()[:, [0, 2, 3]].requires_grad_()
    alone = reference(kept)
    alone.square().sum().backward()
    assert torch.equal(output[:, [0, 2, 3]], alone)
    assert torch.equal(x.grad[:, [0, 2, 3]], kept.grad)
    assert x.grad[0, 1] == 0
