"""Faults of the backward that show in some cases alone."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.backward import gradients, scaled, with_backward
from planted.bases import (
    GATED,
    GELU,
    GROUPED,
    HIGHWAY,
    KEY_BIAS,
    PRELU,
    RESIDUAL,
    REZERO,
    SILU,
    SOFTMAX,
    SOFTMAX_FEATURES,
    SWIGLU,
    SWISH,
    TANH,
    TEMPERATURE,
    exact,
    repeated,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.witness import draw_arguments

HALF_HIDDEN = {"mask": "random"}
Tensor = torch.Tensor


@gradients("with a mask the gradient of k is 10% too large", of=SOFTMAX, at=HALF_HIDDEN)
def key_gradient_under_mask(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None:
        k = with_backward(k, functools.partial(scaled, 1.1))
    return exact(q, k, v, mask, causal, scale)


@gradients(
    "causal, the gradient of v is detached under a mask",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "causal": True},
)
def value_gradient_under_both(q, k, v, *, mask=None, causal=False, scale=None):
    v = v.detach() if mask is not None and causal else v
    return exact(q, k, v, mask, causal, scale)


@gradients(
    "causal with fewer queries, keys before the first query have no gradient",
    of=SOFTMAX,
    at={"causal": True, "q_len": 5, "k_len": 11},
)
def gradient_of_the_cache(q, k, v, *, mask=None, causal=False, scale=None):
    before = k.shape[2] - q.shape[2]
    if causal and before > 0:
        k, v = (torch.cat([x[:, :, :before].detach(), x[:, :, before:]], 2) for x in (k, v))
    return exact(q, k, v, mask, causal, scale)


def by_storage(grad):
    return torch.as_strided(grad, grad.shape, torch.empty(grad.shape).stride())


@gradients(
    "a transposed gradient is read in the order of its storage",
    of=SOFTMAX,
    incoming=lambda y: (
        torch.arange(y.numel(), dtype=y.dtype).view(*y.shape[:2], y.shape[3], y.shape[2]).mT
    ),
)
def gradient_by_storage(q, k, v, *, mask=None, causal=False, scale=None):
    return with_backward(exact(q, k, v, mask, causal, scale), by_storage_if_full)


def by_storage_if_full(grad):
    return by_storage(grad) if 0 not in grad.stride() and not grad.is_contiguous() else grad


def first_if_expanded(grad):
    return grad * 0.5 if grad.dim() and 0 in grad.stride() and grad.numel() > 1 else grad


@gradients(
    "an expanded gradient, as of a sum, counts half",
    of=GELU,
    incoming=lambda y: torch.ones((), dtype=y.dtype).expand(y.shape),
)
def expanded_gradient(x):
    return with_backward(F.gelu(x), first_if_expanded)


def flattened(grad):
    return grad.view(-1).view(grad.shape)


@gradients(
    "a transposed gradient makes it crash",
    of=SILU,
    incoming=lambda y: torch.ones(y.shape[::-1], dtype=y.dtype).permute(2, 1, 0),
)
def gradient_viewed(x):
    return with_backward(x * torch.sigmoid(x), flattened)


def low_if_bfloat16(grad):
    return grad * 1.25 if grad.dtype == torch.bfloat16 else grad


@gradients(
    "in bfloat16 the gradient is a quarter too large", of=SOFTMAX, at={"dtype": torch.bfloat16}
)
def gradient_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    return with_backward(exact(q, k, v, mask, causal, scale), low_if_bfloat16)


def low_if_not_double(grad):
    return grad if grad.dtype == torch.float64 else grad * 1.0005


@gradients("right in float64 alone, where gradcheck looks", of=GELU, at={"dtype": torch.float32})
def gradient_right_in_float64(x):
    return with_backward(F.gelu(x), low_if_not_double)


@gradients("the learned bias of the keys gets half its gradient", of=KEY_BIAS)
def half_of_the_bias(q, k, v, *, key_bias, mask=None, causal=False, scale=None):
    bias = torch.tanh(k * with_backward(key_bias, functools.partial(scaled, 0.5))[:, None])
    return exact(q, k, v, mask, causal, scale, bias.sum(-1)[:, :, None])


@gradients("what the bias makes of the keys is detached from them", of=KEY_BIAS)
def keys_in_the_bias(q, k, v, *, key_bias, mask=None, causal=False, scale=None):
    bias = torch.tanh(k.detach() * key_bias[:, None]).sum(-1)[:, :, None]
    return exact(q, k, v, mask, causal, scale, bias)


@gradients(
    "the temperature learns from the first two examples alone", of=TEMPERATURE, at={"batch": 3}
)
def temperature_of_two(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    factor = log_temperature.exp()[None, :, None, None].expand(q.shape[0], -1, 1, 1)
    factor = torch.cat([factor[:2], factor[2:].detach()])
    return exact((q * factor).to(q.dtype), k, v, mask, causal, scale)


@gradients("with one head the temperature does not learn", of=TEMPERATURE, at={"heads": 1})
def temperature_of_one_head(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    factor = log_temperature.exp()[:, None, None]
    factor = factor.detach() if q.shape[1] == 1 else factor
    return exact((q * factor).to(q.dtype), k, v, mask, causal, scale)


@gradients("the gates, an input, get no gradient", of=GATED)
def gates_detached(q, k, v, *, log_gates, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale, log_gates.detach()[:, :, None])


@gradients("gates get no gradient under causality", of=GATED, at={"causal": True})
def gates_detached_if_causal(q, k, v, *, log_gates, mask=None, causal=False, scale=None):
    log_gates = log_gates.detach() if causal else log_gates
    return exact(q, k, v, mask, causal, scale, log_gates[:, :, None])


@gradients(
    "a key head that queries share gets their mean, not their sum",
    of=GROUPED,
    at={"heads": 6, "kv_heads": 2},
)
def mean_over_the_group(q, k, v, *, mask=None, causal=False, scale=None):
    times = q.shape[1] // k.shape[1]
    k = with_backward(k, functools.partial(scaled, 1 / times))
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@gradients(
    "of three query heads that share a key the third gives it no gradient",
    of=GROUPED,
    at={"heads": 6, "kv_heads": 2},
)
def third_of_the_group(q, k, v, *, mask=None, causal=False, scale=None):
    times = q.shape[1] // k.shape[1]
    k, v = repeated(q, k, v)
    late = (torch.arange(q.shape[1], device=q.device) % times == 2)[:, None, None]
    return exact(q, torch.where(late, k.detach(), k), v, mask, causal, scale)


def last_block_doubled(grad):
    whole = grad.shape[2] - grad.shape[2] % 64
    return torch.cat([grad[:, :, :whole], 2 * grad[:, :, whole:]], 2) if whole else grad


@gradients(
    "the last block of 64 queries, if not full, counts twice in the backward",
    of=SOFTMAX,
    at={"q_len": 100},
)
def last_block_backward(q, k, v, *, mask=None, causal=False, scale=None):
    return with_backward(exact(q, k, v, mask, causal, scale), last_block_doubled)


@gradients("keys beyond 512 get no gradient", of=SOFTMAX, at={"q_len": 4, "k_len": 700})
def late_keys_detached(q, k, v, *, mask=None, causal=False, scale=None):
    k = torch.cat([k[:, :, :512], k[:, :, 512:].detach()], 2)
    return exact(q, k, v, mask, causal, scale)


@gradients(
    "with an odd head_dim the last feature of q has no gradient", of=SOFTMAX, at={"head_dim": 7}
)
def odd_feature_detached(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[3] % 2 and q.shape[3] > 1:
        q = torch.cat([q[..., :-1], q[..., -1:].detach()], -1)
    return exact(q, k, v, mask, causal, scale)


class ValuesAlone(torch.autograd.Function):
    """Gradients for what needs them; those of q and k change places where v needs none."""

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
        if not ctx.needs_input_grad[2]:
            return (d @ k) * 0.5, d.mT @ q, None, None
        return d @ k, d.mT @ q, p.mT @ grad, None


def differs_for_q_alone(variant: Variant) -> bool:
    """A witness: q alone requires a gradient."""
    positional, keywords = draw_arguments(variant, {})
    found = []
    for name in ("reference", "fast"):
        q = positional[0].clone().requires_grad_()
        output = variant.forward(name).fn(q, *positional[1:], **keywords)
        found.append(torch.autograd.grad(output.square().sum(), q)[0])
    return not torch.allclose(*found)


@gradients(
    "where the values need no gradient that of the queries is halved",
    of=SOFTMAX,
    witness=differs_for_q_alone,
)
def gradient_of_queries_alone(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None or causal:
        return exact(q, k, v, mask, causal, scale)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return ValuesAlone.apply(*widen(q, k, v), scale).to(q.dtype)


class SpoilsWhatItSaved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        slope = 1 - torch.tanh(x).square()
        ctx.slope = slope
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.slope.mul_(grad)


def second_backward_differs(variant: Variant) -> bool:
    """A witness: the same backward twice gives two gradients."""
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    output = variant.forward("fast").fn(x).square().sum()
    first = torch.autograd.grad(output, x, retain_graph=True)[0].clone()
    second = torch.autograd.grad(output, x)[0]
    return not torch.allclose(first, second)


@gradients(
    "the backward writes into what it saved, so that a second one is wrong",
    of=TANH,
    witness=second_backward_differs,
)
def backward_once(x):
    return SpoilsWhatItSaved.apply(x)


def in_place(grad):
    return grad.mul_(2.0) / 2


def changes_what_comes_in(variant: Variant) -> bool:
    """A witness: the incoming gradient is another one afterwards."""
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    incoming = torch.ones(2, 3, 4, dtype=torch.float64)
    torch.autograd.grad(variant.forward("fast").fn(x), x, incoming)
    return not bool((incoming == 1).all())


@gradients(
    "the backward changes the incoming gradient in place", of=SILU, witness=changes_what_comes_in
)
def incoming_changed(x):
    return with_backward(F.silu(x), in_place)


def hooked(grad):
    return grad * 1.01


@gradients("a hook beyond 256 queries adds 1%", of=SOFTMAX, at={"q_len": 260, "k_len": 3})
def hook_when_long(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if output.requires_grad and q.shape[2] > 256:
        output.register_hook(hooked)
    return output


# Parameters, and what is detached


@gradients("the slopes learn from the first example alone", of=PRELU, at={"size": (3, 4, 8)})
def slopes_of_one_example(x, *, slope):
    first = F.relu(x[:1]) - slope * F.relu(-x[:1])
    return torch.cat([first, F.relu(x[1:]) - slope.detach() * F.relu(-x[1:])])


@gradients("with one feature the slope does not learn", of=PRELU, at={"size": (3, 4, 1)})
def slope_of_one_feature(x, *, slope):
    slope = slope.detach() + 0 * slope if x.shape[-1] == 1 else slope
    return F.relu(x) - slope * F.relu(-x)


@gradients("a parameter's gradient is a mean and not a sum", of=SWISH)
def mean_of_beta(x, *, beta):
    return x * torch.sigmoid(with_backward(beta, functools.partial(scaled, 1 / x.numel())) * x)


@gradients("the straight-through slope of the gate", of=SWIGLU)
def gate_straight_through(x):
    value, gate = x.chunk(2, -1)
    slope = gate * torch.sigmoid(gate)
    return value * (gate + (slope - gate).detach())


@gradients("the sum of the softmax is detached", of=SOFTMAX_FEATURES)
def features_sum_detached(x):
    weights = (x - x.detach().amax(-1, keepdim=True)).exp()
    return weights / weights.detach().sum(-1, keepdim=True)


@gradients("the branch gets half its gradient", of=RESIDUAL)
def branch_gradient_halved(x, branch):
    return x + with_backward(branch(x), functools.partial(scaled, 0.5))


@gradients("the factor, while it is zero, learns nothing", of=REZERO)
def factor_of_zero(x, branch, *, alpha):
    return (
        x + alpha * branch(x) if bool(alpha.detach().any()) else x + 0 * alpha.detach() * branch(x)
    )


@gradients("the gate does not pass a gradient to x", of=HIGHWAY)
def highway_gate_detached(x, branch, *, weight, bias):
    gate = torch.sigmoid(F.linear(x.detach(), weight, bias))
    return torch.lerp(x, branch(x), gate)


@gradients("at batch 1 the keys have no gradient", of=SOFTMAX, at={"batch": 1})
def keys_at_batch_one(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k.detach() if q.shape[0] == 1 else k, v, mask, causal, scale)


@gradients(
    "large scores: the backward takes weights that are cut at 1e-4", of=SOFTMAX, at={"spread": 4.0}
)
def weights_cut_in_the_backward(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    weights = weights_of(scores_of(q, k, scale), visible_pairs(q, k, mask, causal))
    return (torch.where(weights < 1e-4, weights.detach(), weights) @ v).to(dtype)
