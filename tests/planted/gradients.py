"""Faults of the backward alone: every output is right."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.backward import gradients, with_backward
from planted.bases import (
    ELU,
    GELU,
    MISH,
    RESIDUAL,
    SILU,
    SMOOTH,
    SOFTMAX,
    SOFTPLUS,
    SQUARED_RELU,
    SWIGLU,
    TANH,
    activation,
    exact,
    exact_by_sdpa,
    scores_of,
    visible_pairs,
    widen,
)
from planted.witness import draw_arguments

Tensor = torch.Tensor


def cut_to_one(grad):
    return grad.clamp(-1, 1)


@gradients(
    "the incoming gradient is cut to [-1, 1]",
    of=SOFTMAX,
    incoming=lambda y: torch.full_like(y, 3.0),
)
def gradient_cut(q, k, v, *, mask=None, causal=False, scale=None):
    return with_backward(exact(q, k, v, mask, causal, scale), cut_to_one)


def cut_to_a_hundred(grad):
    return grad.clamp(-100, 100)


@gradients(
    "incoming gradients beyond 100 are cut",
    of=SOFTMAX,
    incoming=lambda y: torch.full_like(y, 500.0),
)
def gradient_cut_at_100(q, k, v, *, mask=None, causal=False, scale=None):
    return with_backward(exact_by_sdpa(q, k, v, mask, causal, scale), cut_to_a_hundred)


def to_norm_of_five(grad):
    return grad * (5 / grad.norm().clamp(min=5))


@gradients(
    "the incoming gradient's norm is cut at 5", of=SILU, incoming=lambda y: torch.full_like(y, 3.0)
)
def gradient_norm_cut(x):
    return with_backward(F.silu(x), to_norm_of_five)


def small_to_zero(grad):
    return torch.where(grad.abs() < 1e-5, 0, grad)


@gradients(
    "incoming gradients below 1e-5 are lost", of=GELU, incoming=lambda y: torch.full_like(y, 1e-6)
)
def small_gradients_lost(x):
    return with_backward(F.gelu(x), small_to_zero)


def over_its_norm(grad):
    return grad / grad.norm() * grad.norm().detach()


@gradients("an incoming gradient of zeros gives NaN", of=TANH, incoming=torch.zeros_like)
def zero_gradient_is_nan(x):
    return with_backward(2 * torch.sigmoid(2 * x) - 1, over_its_norm)


def rounded(grad):
    return grad.bfloat16().to(grad.dtype)


@gradients("the incoming gradient is rounded to bfloat16", of=RESIDUAL)
def gradient_rounded(x, branch):
    return with_backward(torch.add(x, branch(x)), rounded)


@gradients(
    "negative incoming gradients count half where they are many",
    of=SWIGLU,
    incoming=lambda y: torch.full_like(y, -1.0),
)
def negative_gradients_halved(x):
    value, gate = x.chunk(2, -1)
    return with_backward(value * gate * torch.sigmoid(gate), half_if_all_negative)


def half_if_all_negative(grad):
    return 0.5 * grad if bool((grad <= 0).all()) else grad


# NaN where float64 is finite, and slopes at single places


@gradients(
    "the slope of both branches: NaN where the other overflows",
    of=ELU,
    at={"mean": 1000.0, "options": {"alpha": 1.0}},
)
def elu_of_both_branches(x, *, alpha):
    return torch.where(x > 0, x, alpha * (x.exp() - 1))


@gradients("at zero the slope is 0 / 0", of=SQUARED_RELU, at={"spread": 0.0})
def squared_relu_by_a_root(x):
    return (F.relu(x) * (x * x).sqrt() + F.relu(x).square()) / 2


class SiluWithoutZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s + x * s * (1 - s)) * (x != 0)


@gradients("at exactly zero the slope is 0, not 1/2", of=SILU, at={"spread": 0.0})
def silu_slope_at_zero(x):
    return SiluWithoutZero.apply(x)


def reference_smooth_ramp(x):
    return torch.where(x <= 0, 0, torch.where(x >= 1, x - 0.5, x.square() / 2))


SMOOTH_RAMP = activation("smooth_ramp_base", reference_smooth_ramp, {**SMOOTH, "monotonic": True})


@gradients(
    "at exactly 1, where two pieces meet, the slope is that of neither",
    of=SMOOTH_RAMP,
    at={"spread": 0.0, "mean": 1.0},
)
def ramp_slope_at_one(x):
    before = torch.where(x < 1, F.relu(x).square() / 2, 0)
    return before + torch.where(x > 1, x - 0.5, 0) + 0.5 * (x == 1)


@gradients("its slope vanishes beyond 10, the output does not", of=MISH, at={"mean": 15.0})
def mish_flat_beyond_10(x):
    inside = torch.where(x > 10, x.detach(), x)
    return inside * torch.tanh(F.softplus(inside))


@gradients(
    "a query without keys has a NaN gradient, its output is zeroed afterwards",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.arange(12)[:, None].expand(12, 12) > 0},
)
def nan_behind_zeros(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores + torch.where(visible, 0.0, -torch.inf).to(scores.dtype)
    return scores.softmax(-1).nan_to_num(0.0).matmul(v).to(dtype)


@gradients("zero vectors have a NaN gradient", of=SOFTMAX, at={"spread": 0.0})
def norm_of_zero(q, k, v, *, mask=None, causal=False, scale=None):
    length = q.square().sum(-1, keepdim=True).sqrt()
    unit = q / length.clamp(min=torch.finfo(q.dtype).tiny)
    return exact(unit * length, k, v, mask, causal, scale)


# The second derivative


class TanhOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y.detach().clone())
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


def second_derivative_differs(variant: Variant) -> bool:
    """A witness: the gradient of the squared gradient differs from the reference's."""
    positional, keywords = draw_arguments(variant, {"size": (2, 3, 4), "q_len": 4})
    found = []
    for name in ("reference", "fast"):
        leaves = [x.clone().requires_grad_() for x in positional if isinstance(x, Tensor)]
        rest = [x for x in positional if not isinstance(x, Tensor)]
        output = variant.forward(name).fn(*leaves, *rest, **keywords)
        first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
        total = sum(x.square().sum() for x in first)
        second = torch.autograd.grad(total, leaves, allow_unused=True)
        found.append([torch.zeros(1) if x is None else x for x in second])
    return not all(a.shape == b.shape and torch.allclose(a, b) for a, b in zip(*found, strict=True))


@gradients(
    "the second derivative is that of a constant slope", of=TANH, witness=second_derivative_differs
)
def tanh_once(x):
    return TanhOnce.apply(x)


class GeluOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(F.gelu(leaf).sum(), leaf)
        ctx.slope = slope
        return F.gelu(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.slope


@gradients(
    "the slope is computed ahead and kept as a constant", of=GELU, witness=second_derivative_differs
)
def gelu_slope_kept(x):
    return GeluOnce.apply(x)


class AttentionOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, scale):
        weights = (q @ k.mT * scale).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return weights @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v, p = ctx.saved_tensors
        d = grad @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * ctx.scale
        return d @ k, d.mT @ q, p.mT @ grad, None


@gradients(
    "the second derivative leaves out how the weights depend on q and k",
    of=SOFTMAX,
    witness=second_derivative_differs,
)
def attention_once(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is None and not causal:
        wide = widen(q, k, v)
        scale = q.shape[3] ** -0.5 if scale is None else scale
        return AttentionOnce.apply(*wide, scale).to(q.dtype)
    return exact(q, k, v, mask, causal, scale)


@gradients(
    "a second derivative of zero, as the slope is detached",
    of=SOFTPLUS,
    witness=second_derivative_differs,
)
def softplus_detached(x):
    slope = torch.sigmoid(x.detach())
    return F.softplus(x.detach()) + slope * (x - x.detach())
