"""Faults of the backward alone: every output is right."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    ELU,
    GATED,
    GELU,
    GROUPED,
    HIGHWAY,
    KEY_BIAS,
    MISH,
    PRELU,
    RESIDUAL,
    REZERO,
    SILU,
    SMOOTH,
    SOFTMAX,
    SOFTMAX_FEATURES,
    SOFTPLUS,
    SQUARED_RELU,
    SWIGLU,
    SWISH,
    TANH,
    TEMPERATURE,
    activation,
    exact,
    exact_by_sdpa,
    repeated,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import fault
from planted.witness import draw_arguments, gradient_differs

HALF_HIDDEN = {"mask": "random"}
Tensor = torch.Tensor


def gradients(why, *, of, at=None, witness=None, incoming=None, **declared):
    """Plant a fault that shows in a gradient ``at`` a call."""
    seen = witness or gradient_differs(at or {}, incoming)
    return fault("gradients", why, of=of, witness=seen, **declared)


class Backward(torch.autograd.Function):
    """x as it is, with a backward of one's own; ``change`` gets the incoming gradient."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad), None


def with_backward(x, change):
    return Backward.apply(x, change)


def scaled(factor, grad):
    return grad * factor


# Not a linear function of what comes in


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


# Wrong in some case only


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
