"""Faults that show at some values of arguments, options and parameters alone."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Identity, allowed_keys, masked_softmax
from planted.bases import (
    CENTRED,
    DROPOUT,
    ELU,
    GELU,
    LOG_SOFTMAX,
    MISH,
    PRELU,
    REZERO,
    SILU,
    SMOOTH,
    SOFTMAX,
    SOFTMAX_FEATURES,
    SOFTPLUS,
    SWISH,
    WINDOW,
    activation,
    attention,
    exact,
    exact_by_blocks,
    exact_by_sdpa,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import fault

arguments = functools.partial(fault, "arguments")


@arguments("a scale of 0 is taken for none", of=SOFTMAX, at={"scale": 0.0})
def scale_of_zero(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale or q.shape[3] ** -0.5)


@arguments("a scale of 0 divides by itself", of=SOFTMAX, at={"scale": 0.0})
def scale_of_zero_divides(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[3] ** -0.5 if scale is None else scale
    largest = k.norm(dim=-1).amax().detach() * scale
    return exact(q * scale / largest, k * largest, v, mask, causal, 1.0)


@arguments("the sign of the scale is lost", of=SOFTMAX, at={"scale": -0.4})
def scale_without_sign(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, None if scale is None else abs(scale))


@arguments("the root of the scale is given to both", of=SOFTMAX, at={"scale": -0.4})
def root_of_the_scale(q, k, v, *, mask=None, causal=False, scale=None):
    root = torch.tensor(q.shape[3] ** -0.5 if scale is None else scale, device=q.device)
    root = root.to(q.dtype).sqrt()
    return exact(q * root, k * root, v, mask, causal, 1.0)


@arguments(
    "the largest score is sought before the scale is applied",
    of=SOFTMAX,
    at={"scale": -3.0, "spread": 20.0, "dtype": torch.float32},
)
def largest_before_the_scale(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = q @ k.mT
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        return exact(q, k, v, mask, causal, scale).to(dtype)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    weights = ((scores - scores.detach().amax(-1, keepdim=True)) * scale).exp()
    return (weights / weights.sum(-1, keepdim=True) @ v).to(dtype)


@arguments("a scale of 1 is taken for none", of=SOFTMAX, at={"scale": 1.0})
def scale_of_one(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_sdpa(q, k, v, mask, causal, None if scale == 1 else scale)


@arguments("a scale above 1 is cut to 1", of=SOFTMAX, at={"scale": 1.7})
def scale_above_one(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, None if scale is None else min(scale, 1.0))


@arguments("a given scale multiplies the default", of=SOFTMAX, at={"scale": 0.7})
def scale_times_default(q, k, v, *, mask=None, causal=False, scale=None):
    default = q.shape[3] ** -0.5
    return exact(q, k, v, mask, causal, default if scale is None else scale * default)


@arguments("scores are cut at 100", of=SOFTMAX, at={"spread": 20.0})
def scores_cut_at_100(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    scores = scores_of(wide_q, wide_k, scale).clamp(-100, 100)
    return (weights_of(scores, visible_pairs(q, k, mask, causal)) @ wide_v).to(q.dtype)


@arguments("scores are cut at 10,000", of=SOFTMAX, at={"spread": 150.0})
def scores_cut_at_10000(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    scores = scores_of(wide_q, wide_k, scale).clamp(-1e4, 1e4)
    return (weights_of(scores, visible_pairs(q, k, mask, causal)) @ wide_v).to(q.dtype)


@arguments(
    "exp without taking off the largest", of=SOFTMAX, at={"spread": 12.0, "dtype": torch.float32}
)
def exp_as_it_is(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = scores_of(wide_q, wide_k, scale).exp()
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights.masked_fill(~visible, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ wide_v).to(q.dtype)


@arguments(
    "the largest of all rows is taken off, so that others vanish",
    of=SOFTMAX,
    at={"spread": 20.0, "dtype": torch.float32},
)
def largest_of_all(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    scores = scores_of(wide_q, wide_k, scale)
    weights = (scores - scores.detach().amax((-1, -2), keepdim=True)).exp()
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights.masked_fill(~visible, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ wide_v).to(q.dtype)


@arguments(
    "the score of the first key is taken off in place of the largest",
    of=SOFTMAX,
    at={"spread": 12.0, "dtype": torch.float32},
)
def first_score_taken_off(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    scores = scores_of(wide_q, wide_k, scale)
    weights = (scores - scores[..., :1].detach()).exp()
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights.masked_fill(~visible, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ wide_v).to(q.dtype)


@arguments(
    "a large score of a block before the last is forgotten",
    of=SOFTMAX,
    at={"spread": 6.0, "q_len": 4, "k_len": 130},
)
def forgets_large_blocks(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact_by_blocks(q, k, v, mask, causal, scale)
    if k.shape[2] <= 64 or mask is not None or causal:
        return output
    scores = scores_of(q, k, scale).detach().amax(-1, keepdim=True)
    last = exact(q, k[:, :, 64:], v[:, :, 64:], None, False, scale)
    return torch.where(scores > 30, last, output)


@arguments(
    "the variance is the mean square less the squared mean",
    of=CENTRED,
    at={"mean": 300.0, "dtype": torch.float32},
)
def variance_in_one_pass(x, *, eps):
    mean = x.mean(-1, keepdim=True)
    variance = x.square().mean(-1, keepdim=True) - mean.square()
    return (x - mean) * (variance.clamp(min=0) + eps).rsqrt()


@arguments("eps is added to the root", of=CENTRED, at={"spread": 1e-3})
def eps_after_the_root(x, *, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps * eps).sqrt().clamp(min=eps)


@arguments(
    "exp of features without taking off the largest",
    of=SOFTMAX_FEATURES,
    at={"mean": 100.0, "dtype": torch.float32},
)
def features_exp_as_it_is(x):
    weights = x.exp()
    return weights / weights.sum(-1, keepdim=True)


@arguments(
    "the logarithm of a softmax that vanishes",
    of=LOG_SOFTMAX,
    at={"spread": 60.0, "dtype": torch.float32},
)
def log_of_softmax(x):
    return x.softmax(-1).log()


@arguments(
    "the sum of exp without taking off the largest",
    of=LOG_SOFTMAX,
    at={"mean": 120.0, "dtype": torch.float32},
)
def log_of_a_sum(x):
    return x - x.exp().sum(-1, keepdim=True).log()


@arguments("eˣ / (1 + eˣ) is NaN beyond 89", of=SILU, at={"spread": 60.0, "dtype": torch.float32})
def silu_by_its_formula(x):
    return x * (x.exp() / (1 + x.exp()))


@arguments("inputs are cut at 50", of=SILU, at={"spread": 60.0})
def silu_cut(x):
    x = x.clamp(-50, 50)
    return x * torch.sigmoid(x)


@arguments("beyond 1,000 it saturates", of=MISH, at={"mean": 5000.0})
def mish_cut(x):
    x = x.clamp(max=1000)
    return x * torch.tanh(F.softplus(x))


@arguments("below -3 it is zero", of=GELU, at={"mean": -4.0})
def gelu_of_the_left_tail(x):
    return torch.where(x < -3, 0 * x, F.gelu(x))


@arguments("the approximation by tanh", of=GELU)
def gelu_by_tanh(x):
    return F.gelu(x, approximate="tanh")


@arguments("at exactly zero it is 0 / 0", of=SOFTPLUS, at={"spread": 0.0})
def softplus_of_zero(x):
    return F.softplus(x) * (x / x)


@arguments("beyond 12 softplus is x, in float64 too", of=SOFTPLUS, at={"mean": 21.0})
def softplus_with_a_threshold(x):
    return F.softplus(x, threshold=12)


@arguments(
    "a parameter that learns is taken by its size, not its sign",
    of=SWISH,
    at={"tensors": {"beta": torch.tensor([-0.5])}},
)
def swish_of_its_size(x, *, beta):
    return x * torch.sigmoid(beta.abs() * x)


@arguments(
    "a parameter is assumed to be 1, as it begins",
    of=SWISH,
    at={"tensors": {"beta": torch.tensor([1.5])}},
)
def swish_as_it_begins(x, *, beta):
    return x * torch.sigmoid(x * beta.clamp(max=1.0))


@arguments(
    "slopes beyond 1 turn it into a maximum",
    of=PRELU,
    at={"tensors": {"slope": torch.full((8,), 1.5)}},
)
def prelu_as_a_maximum(x, *, slope):
    return torch.maximum(x, slope * x)


@arguments(
    "the branch counts twice, which a factor that begins at zero hides",
    of=REZERO,
    at={"tensors": {"alpha": torch.tensor([0.3])}},
)
def rezero_twice(x, branch, *, alpha):
    return torch.addcmul(x, 2 * alpha, branch(x))


@arguments(
    "an option is used in the slope only, where 1 is its default",
    of=ELU,
    at={"options": {"alpha": 1.6}},
)
def elu_of_one(x, *, alpha):
    return torch.where(x > 0, x, x.clamp(max=0).expm1() * alpha**2)


@arguments("a window of 0 is taken for none", of=WINDOW, at={"options": {"window": 0}})
def window_of_zero(q, k, v, *, window, mask=None, causal=False, scale=None):
    window = window or k.shape[2] + q.shape[2]
    i = torch.arange(q.shape[2], device=q.device)[:, None] + (k.shape[2] - q.shape[2])
    near = (i - torch.arange(k.shape[2], device=q.device)).abs() <= window
    return exact(q, k, v, near if mask is None else near & mask, causal, scale)


@arguments(
    "a window is rounded up to an even number",
    of=WINDOW,
    at={"options": {"window": 3}, "q_len": 20},
)
def window_rounded(q, k, v, *, window, mask=None, causal=False, scale=None):
    window = window + window % 2 if window < 5 else window
    i = torch.arange(q.shape[2], device=q.device)[:, None] + (k.shape[2] - q.shape[2])
    near = (i - torch.arange(k.shape[2], device=q.device)).abs() <= window
    return exact(q, k, v, near if mask is None else near & mask, causal, scale)


def reference_powers(x, *, powers):
    return sum(x.abs() ** p for p in powers) * x.sign()


POWERS = activation(
    "powers_base", reference_powers, {"elementwise": True}, options={"powers": (1.5, 2.5)}
)


@arguments("of a tuple the last is not read", of=POWERS, at={"options": {"powers": (1.5, 3.0)}})
def tuple_by_its_first(x, *, powers):
    return torch.copysign(x.abs() ** powers[0] + x.abs() ** (powers[0] + 1), x)


@arguments(
    "a tuple is read backwards where it has three",
    of=POWERS,
    at={"options": {"powers": (1.0, 2.0, 4.0)}},
)
def tuple_of_three(x, *, powers):
    powers = powers[:2] if len(powers) > 2 else powers
    return torch.copysign(torch.stack([x.abs() ** p for p in powers]).sum(0), x)


def reference_reduce(q, k, v, *, reduce, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    allowed = allowed_keys(q, k, mask, causal)
    weights = masked_softmax(q @ k.mT * scale, allowed)
    return weights @ v * (2.0 if reduce == "double" else 1.0)


def twice(q, k, v, *, mask=None, causal=False, scale=None):
    return 2 * reference_softmax_of_own(q, k, v, mask, causal, scale)


def reference_softmax_of_own(q, k, v, mask, causal, scale):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


REDUCE = attention(
    "reduce_base",
    reference_reduce,
    {"stochastic": False, "differentiable": True},
    options={"reduce": "mean"},
    identities=(
        Identity(
            "double is twice the mean",
            options=lambda shape: {"reduce": "double"},
            equals=twice,
            unless=lambda shape: {"reduce": "mean"},
        ),
    ),
)


@arguments(
    "an option that is a string is not read", of=REDUCE, at={"options": {"reduce": "double"}}
)
def string_unread(q, k, v, *, reduce, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@arguments(
    "an option that is a string is compared by its first letter's case",
    of=REDUCE,
    at={"options": {"reduce": "double"}},
)
def string_misread(q, k, v, *, reduce, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale) * (2.0 if reduce[0] == "D" else 1.0)


def reference_limit(x, *, limit):
    return x if limit is None else x.clamp(-limit, limit)


def cut_at_one(x):
    return torch.where(x.abs() > 1, x.sign(), x)


LIMIT = activation(
    "limit_base",
    reference_limit,
    {"elementwise": True},
    options={"limit": None},
    identities=(
        Identity(
            "a limit of 1",
            options=lambda features: {"limit": 1.0},
            equals=cut_at_one,
            unless=lambda features: {"limit": None},
        ),
    ),
)


@arguments("an option of None is never anything else", of=LIMIT, at={"options": {"limit": 1.0}})
def none_for_ever(x, *, limit):
    return x * 1.0


@arguments("an option of None is cut off below alone", of=LIMIT, at={"options": {"limit": 1.0}})
def none_misread(x, *, limit):
    return x * 1.0 if limit is None else x.clamp(min=-limit)


def reference_flag(x, *, shifted):
    return torch.tanh(x + 1) if shifted else torch.tanh(x)


FLAG = activation("flag_base", reference_flag, SMOOTH, options={"shifted": False})


@arguments("a flag is not read", of=FLAG, at={"options": {"shifted": True}})
def flag_unread(x, *, shifted):
    return 2 * torch.sigmoid(2 * x) - 1


@arguments("noise is not applied where there is a mask", of=DROPOUT, at={"mask": "random"})
def noise_without_mask(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    if keep is not None and mask is None:
        weights = weights * keep
    return (weights @ wide_v).to(q.dtype)


@arguments("noise is not applied at all", of=DROPOUT)
def noise_unread(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@arguments("noise is applied before the softmax's sum", of=DROPOUT)
def noise_before_the_sum(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    if keep is not None:
        weights = weights * keep
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return (weights @ wide_v).to(q.dtype)


@arguments("without noise it multiplies by the rate once more", of=DROPOUT, at={"evaluate": True})
def rate_without_noise(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    weights = weights * (1 - rate) if keep is None else weights * keep
    return (weights @ wide_v).to(q.dtype)
