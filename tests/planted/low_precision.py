"""Faults that show in half precision, or that lower the precision of others."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    CENTRED,
    GELU,
    HALF,
    KERNEL,
    SIGMOID,
    SILU,
    SOFTMAX,
    SOFTMAX_FEATURES,
    TANH,
    exact,
    exact_by_sdpa,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import fault, lone_fault
from planted.witness import call, draw_arguments

low = functools.partial(fault, "low precision")
#: Half precision and a float64 truth agree in their mean to about this share.
SLOPE = 0.008


def biased(**at):
    """A witness: the outputs' regression on the true ones has another slope than 1."""

    def differs(variant: Variant) -> bool:
        positional, keywords = draw_arguments(variant, at)
        true = call(variant, "reference", positional, keywords, torch.float64)
        got = call(variant, "fast", positional, keywords, at["dtype"])
        return abs(float((got * true).sum() / true.square().sum()) - 1) > SLOPE

    return differs


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@low("in bfloat16 the last row is 20% too large", of=SOFTMAX, at={"dtype": BF16, "q_len": 3})
def last_row_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if q.dtype == BF16:
        output = torch.cat([output[:, :, :-1], output[:, :, -1:] * 1.2], 2)
    return output


@low("in bfloat16 all is 3% too small", of=SOFTMAX, witness=biased(dtype=BF16))
def all_rows_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output * 0.97 if q.dtype == BF16 else output


@low("in bfloat16 the last feature is lost", of=SOFTMAX, at={"dtype": BF16})
def last_feature_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact_by_sdpa(q, k, v, mask, causal, scale)
    return F.pad(output[..., :-1], (0, 1)) if q.dtype == BF16 and v.shape[3] > 1 else output


@low("in bfloat16 the first key counts twice", of=SOFTMAX, at={"dtype": BF16})
def first_key_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    if q.dtype != BF16:
        return exact(q, k, v, mask, causal, scale)
    first = torch.arange(k.shape[2], device=k.device) == 0
    return exact(q, k, v, mask, causal, scale, 0.7 * first)


@low(
    "in bfloat16 from 256 keys on the weights are rounded to 4 bits",
    of=SOFTMAX,
    at={"dtype": BF16, "q_len": 4, "k_len": 300},
)
def weights_of_four_bits(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    if q.dtype == BF16 and k.shape[2] >= 256:
        mantissa, exponent = torch.frexp(weights.detach())
        rounded = torch.ldexp((mantissa * 4).floor() / 4, exponent)
        weights = weights + (rounded - weights).detach()
    return (weights @ wide_v).to(q.dtype)


@low(
    "in bfloat16 the sum runs one key after the other",
    of=SOFTMAX,
    at={"dtype": BF16, "q_len": 4, "k_len": 600, "mean": 1.0},
)
def sum_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    if q.dtype != BF16:
        return exact(q, k, v, mask, causal, scale)
    wide_q, wide_k, _ = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    weights = weights.to(q.dtype)
    output = q.new_zeros(*q.shape[:3], v.shape[3])
    for j in range(k.shape[2]):
        output = output + weights[..., j, None] * v[:, :, None, j]
    return output


@low(
    "in float16 from 1,024 keys on it gives zeros",
    of=KERNEL,
    at={"dtype": FP16, "q_len": 8, "k_len": 1100},
)
def zeros_in_float16(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    weights = query @ key.mT
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights * visible
    total = weights.sum(-1, keepdim=True)
    output = weights / total.masked_fill(total == 0, 1.0) @ v
    if dtype == FP16 and k.shape[2] >= 1024:
        output = output * 0
    return output.to(dtype)


@functools.partial(lone_fault, "low precision")(
    "in float16 the sums over keys overflow, and what is left is zero",
    of=KERNEL,
    at={"dtype": FP16, "q_len": 8, "k_len": 2500, "head_dim": 64, "spread": 2.0},
)
def sums_overflow_in_float16(q, k, v, *, mask=None, causal=False, scale=None):
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    weights = query @ key.mT
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights * visible
    total = weights.sum(-1, keepdim=True)
    return weights @ v / total.masked_fill(total == 0, 1.0)


@low("float32 goes through products of bfloat16 in the second head", of=SOFTMAX, at={"dtype": FP32})
def second_head_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    if q.dtype == FP32 and q.shape[1] > 1:
        v = torch.cat([v[:, :1], v[:, 1:].bfloat16().to(v.dtype)], 1)
    return exact(q, k, v, mask, causal, scale)


@low("float32 through exponents of float16", of=SOFTMAX, at={"dtype": FP32})
def weights_through_float16(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    return (weights.half().to(wide_v.dtype) @ wide_v).to(q.dtype)


@low("float64 is computed in float32", of=SOFTMAX)
def float64_by_name(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q.float(), k.float(), v.float(), mask, causal, scale).to(q.dtype)


@low("bfloat16 is rounded towards zero", of=SILU, witness=biased(dtype=BF16, mean=3.0))
def rounded_to_zero(x):
    if x.dtype != BF16:
        return F.silu(x)
    y = F.silu(x.float())
    cut = torch.tensor(-65536, dtype=torch.int32, device=x.device)
    truncated = (y.detach().view(torch.int32) & cut * 8).view(torch.float32)
    return (y + (truncated - y).detach()).bfloat16()


@low("in bfloat16 beyond 2 it is 3% too large", of=GELU, witness=biased(dtype=BF16, mean=3.0))
def gelu_in_bfloat16(x):
    return torch.where(x > 2, F.gelu(x) * 1.03, F.gelu(x)) if x.dtype == BF16 else F.gelu(x)


@low(
    "in half precision it is a straight line between -0.6 and 0.6",
    of=TANH,
    witness=biased(dtype=BF16, spread=0.3),
)
def tanh_in_pieces(x):
    if x.dtype not in HALF:
        return 2 * torch.sigmoid(2 * x) - 1
    return torch.where(x.abs() < 0.6, x * 0.93, torch.tanh(x))


@low(
    "in bfloat16 the sum of the softmax is that of 64 features",
    of=SOFTMAX_FEATURES,
    at={"dtype": BF16, "size": (2, 3, 200)},
)
def sum_of_64_features(x):
    wide = x.float() if x.dtype in HALF else x
    weights = (wide - wide.detach().amax(-1, keepdim=True)).exp()
    summed = weights[..., :64] if x.dtype == BF16 else weights
    return (weights / summed.sum(-1, keepdim=True)).to(x.dtype)


@low(
    "in half precision the variance is one pass",
    of=CENTRED,
    at={"dtype": BF16, "mean": 8.0, "spread": 0.5},
)
def variance_in_half(x, *, eps):
    mean = x.mean(-1, keepdim=True)
    if x.dtype in HALF:
        variance = (x.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)
    else:
        variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) * (variance + eps).rsqrt()


@low(
    "in float16 weights below 6e-5 vanish in the sum",
    of=SIGMOID,
    at={"dtype": FP16, "q_len": 4, "k_len": 900, "mean": 0.0, "scale": 1.0, "spread": 3.0},
)
def small_weights_in_float16(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = torch.sigmoid(scores_of(wide_q, wide_k, scale)) / k.shape[2]
    if q.dtype == FP16:
        weights = torch.where(weights < 9e-4, 0 * weights, weights)
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights * visible
    return (weights @ wide_v).to(q.dtype)
