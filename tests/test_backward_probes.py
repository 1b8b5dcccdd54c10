"""Backwards that are wrong on purpose, each with what is right and looks alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_wrong_variants import described, fused, right

from bakeoff import Activation, Attention, Variant
from bakeoff.suites.backward import gradient_of_each, linear_backward, second_derivative
from bakeoff.suites.records import Status
from bakeoff.suites.slopes import slope_at_kinks
from bakeoff.suites.verdicts import Check, Subject, Unsupported, Verdict

Function = Callable[..., Any]


def activation(fn: Function, reference: Function = F.silu, **properties: Any) -> Activation:
    return Activation(
        "planted",
        forwards={"reference": reference, "fast": fn},
        metadata=described(properties={"elementwise": True, **properties}),
    )


def attention(fn: Function) -> Attention:
    return Attention("planted", forwards={"reference": right, "fast": fn}, metadata=described())


def found(check: Check, variant: Variant, dtype: str = "float32") -> Verdict:
    return check(Subject(variant, "fast", dtype))


class Changed(torch.autograd.Function):
    """x, with a backward of one's own."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.change(gradient), None


class SpoilsItsSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.slope = torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))
        return F.silu(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.slope.mul_(gradient)


def changing(change: Function) -> Function:
    return lambda x: Changed.apply(F.silu(x), change)


NOT_LINEAR = {
    "1.02e+03 times": lambda g: g.clamp(-1, 1),
    "5.96e-08 times": lambda g: torch.where(g.abs() < 1e-6, 0, g),
    "0 times": lambda g: g / g.norm() * g.norm(),
    "-1 times": lambda g: g if bool((g > 0).any()) else g / 2,
    "the sum of two": lambda g: g.bfloat16().to(g),
    "expanded": lambda g: g / 2 if 0 in g.stride() else g,
    "changes the gradient that comes in": lambda g: g.mul_(2) / 2,
}


@pytest.mark.parametrize("told", NOT_LINEAR)
def test_a_backward_that_is_not_linear(told: str) -> None:
    verdict = found(linear_backward, activation(changing(NOT_LINEAR[told])))
    assert verdict.status is Status.WRONG
    assert told in verdict.reason


def test_a_backward_that_spoils_what_it_kept() -> None:
    verdict = found(linear_backward, activation(SpoilsItsSlope.apply))
    assert "a second backward of the same graph" in verdict.reason


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("variant", [activation(F.silu), attention(fused)])
def test_a_backward_that_is_linear(variant: Variant, dtype: str) -> None:
    assert found(linear_backward, variant, dtype).status is Status.OK
    assert found(gradient_of_each, variant, dtype).status is Status.OK


def test_a_backward_that_may_run_once_is_no_fault() -> None:
    compiled = torch.compile(lambda x: x * torch.sigmoid(x), backend="aot_eager")
    assert found(linear_backward, activation(compiled)).status is Status.OK


class ForgetsTheScale(torch.autograd.Function):
    """Where v needs no gradient that of q is halved."""

    @staticmethod
    def forward(ctx, q, k, v):
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, p = ctx.saved_tensors
        d = gradient @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
        half = 1.0 if ctx.needs_input_grad[2] else 0.5
        return d @ k * half, d.mT @ q, p.mT @ gradient


def test_a_gradient_that_depends_on_who_else_needs_one() -> None:
    variant = attention(lambda q, k, v, **_: ForgetsTheScale.apply(q, k, v))
    verdict = found(gradient_of_each, variant)
    assert verdict.status is Status.WRONG
    assert verdict.reason.startswith("no other input that requires a gradient than q")
    assert found(linear_backward, variant).status is Status.OK


class KeepsItsSlope(torch.autograd.Function):
    """The weights are kept as if they did not depend on q and k: its second derivative is wrong."""

    @staticmethod
    def forward(ctx, q, k, v):
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, p = ctx.saved_tensors
        d = gradient @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
        return d @ k, d.mT @ q, p.mT @ gradient


class ComputesAgain(KeepsItsSlope):
    @staticmethod
    def backward(ctx, gradient):
        q, k, v, _ = ctx.saved_tensors
        p = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        d = gradient @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
        return d @ k, d.mT @ q, p.mT @ gradient


class Refuses(KeepsItsSlope):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return KeepsItsSlope.backward(ctx, gradient)


def of_a_function(function: Any) -> Attention:
    return attention(lambda q, k, v, **_: function.apply(q, k, v))


def test_a_second_derivative_that_is_wrong() -> None:
    verdict = found(second_derivative, of_a_function(KeepsItsSlope))
    assert verdict.status is Status.WRONG
    assert verdict.reason.startswith("differentiated twice: the gradient of")
    detached = activation(lambda x: x * torch.sigmoid(x.detach()) + _zero_with_slope(x))
    assert found(second_derivative, detached).status is Status.WRONG


def _zero_with_slope(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x.detach())
    return x.detach() * s * (1 - s) * (x - x.detach())


def test_a_second_derivative_that_is_right() -> None:
    assert found(second_derivative, of_a_function(ComputesAgain)).status is Status.OK
    assert found(second_derivative, activation(F.silu)).status is Status.OK
    # Of what is linear there is none, in any form.
    doubled = activation(lambda x: x + x, reference=lambda x: 2 * x)
    assert found(second_derivative, doubled).status is Status.OK


@pytest.mark.parametrize("variant", [of_a_function(Refuses), attention(fused)])
def test_a_second_derivative_that_is_refused(variant: Variant) -> None:
    with pytest.raises(Unsupported, match=r"refused: .*(twice|not implemented)"):
        found(second_derivative, variant)


def test_what_has_no_derivative_is_asked_for_none() -> None:
    variant = activation(lambda x: x.detach(), differentiable=False)
    for check in (second_derivative, linear_backward, gradient_of_each, slope_at_kinks):
        with pytest.raises(Unsupported, match="declares that its backward is not the derivative"):
            found(check, variant)


@pytest.mark.parametrize(
    ("fn", "told"),
    [
        (lambda x: torch.relu(x) * (x * x).sqrt(), "at x = 0 the slope is nan"),
        (lambda x: Changed.apply(F.silu(x), lambda g: g * (x != 3)), "at x = 3 the slope is 0,"),
        (lambda x: x.abs() * torch.sign(x), "at x = 0 the slope is 0, expected 1"),
    ],
)
def test_a_slope_that_neither_side_has(fn: Function, told: str) -> None:
    verdict = found(slope_at_kinks, activation(fn))
    assert verdict.status is Status.WRONG
    assert verdict.reason.startswith(told)


@pytest.mark.parametrize(
    "fn",
    [torch.relu, F.hardswish, F.hardshrink, lambda x: torch.relu(x) - 0.1 * torch.relu(-x), F.silu],
)
def test_a_kink_is_no_fault(fn: Function) -> None:
    assert found(slope_at_kinks, activation(fn)).status is Status.OK


def test_a_gate_has_kinks_too() -> None:
    def gated(x: torch.Tensor) -> torch.Tensor:
        value, gate = x.chunk(2, -1)
        return value * torch.where(gate == 1, gate.detach(), gate)

    variant = Activation("planted", forwards={"reference": gated}, gated=True, metadata=described())
    verdict = slope_at_kinks(Subject(variant, "reference"))
    assert verdict.reason.startswith("at the second half = 1 the slope is 0, expected 1")
