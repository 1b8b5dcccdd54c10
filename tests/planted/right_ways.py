"""Right variants that look odd: by the way in which they compute."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
import torch.utils.checkpoint

from planted.bases import (
    GELU,
    GROUPED,
    SOFTMAX,
    exact,
    exact_by_blocks,
    exact_by_sdpa,
    repeated,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import right

# The building blocks of the faults, as they are


@right("a softmax by its formula", of=SOFTMAX)
def by_its_formula(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@right("blocks of 64 keys with running sums and a remainder", of=SOFTMAX, at={"q_len": 130})
def by_blocks(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_blocks(q, k, v, mask, causal, scale)


@right("blocks of 7 keys", of=SOFTMAX, at={"q_len": 40, "causal": True})
def by_small_blocks(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_blocks(q, k, v, mask, causal, scale, size=7)


@right("torch's fused kernel", of=SOFTMAX)
def by_the_fused_kernel(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_sdpa(q, k, v, mask, causal, scale)


@right("heads that share keys, by a view", of=GROUPED, at={"heads": 6, "kv_heads": 2})
def grouped_by_views(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@right("heads that share keys are more rows of queries", of=GROUPED, at={"heads": 6, "kv_heads": 2})
def grouped_by_rows(q, k, v, *, mask=None, causal=False, scale=None):
    groups = k.shape[1]
    wide_q, wide_k, wide_v = widen(q, k, v)
    wide_q = wide_q.unflatten(1, (groups, -1))  # (B, groups, times, Nq, D)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    scores = torch.einsum("bgtid,bgjd->bgtij", wide_q, wide_k) * scale
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(*q.shape[:3], k.shape[2]).unflatten(1, (groups, -1))
    weights = weights_of(scores, visible)
    return torch.einsum("bgtij,bgjd->bgtid", weights, wide_v).flatten(1, 2).to(q.dtype)


# Ways to compute it


@right("in the domain of logarithms", of=SOFTMAX)
def by_logarithms(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return ((scores - scores.logsumexp(-1, keepdim=True)).exp() @ v).to(dtype)
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    return (weights.masked_fill(~visible, 0.0) @ v).to(dtype)


@right("with powers of two in place of exp", of=SOFTMAX)
def by_powers_of_two(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * (scale * math.log2(math.e))
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    largest = scores.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = torch.exp2(scores - largest)
    total = weights.sum(-1, keepdim=True)
    return (weights @ v / total.masked_fill(total == 0, 1.0)).to(dtype)


@right("one query at a time: slower than the reference by orders", of=SOFTMAX)
def by_single_queries(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(*q.shape[:3], k.shape[2])
    rows = [
        exact(
            q[:, :, i : i + 1],
            k,
            v,
            None if visible is None else visible[:, :, i : i + 1],
            False,
            scale,
        )
        for i in range(q.shape[2])
    ]
    return torch.cat(rows, 2)


@right("one head at a time, stacked", of=SOFTMAX)
def by_single_heads(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(*q.shape[:3], k.shape[2])
    heads = [
        exact(
            *(x[:, h, None] for x in (q, k, v)),
            None if visible is None else visible[:, h, None],
            False,
            scale,
        )
        for h in range(q.shape[1])
    ]
    return torch.cat(heads, 1)


@right("the output is a transposed view", of=SOFTMAX)
def not_contiguous(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output.transpose(1, 2).contiguous().transpose(1, 2)


@right("in place on what it made itself", of=SOFTMAX)
def in_place_on_its_own(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return (scores.sub_(scores.detach().amax(-1, keepdim=True)).softmax(-1) @ v).to(dtype)
    scores.masked_fill_(~visible, torch.finfo(scores.dtype).min)
    return (scores.softmax(-1).masked_fill(~visible, 0.0) @ v).to(dtype)


def _checkpointed(q, k, v, visible, scale):
    return weights_of(scores_of(q, k, scale), visible) @ v


@right("what it needs is computed again in the backward", of=SOFTMAX)
def by_a_checkpoint(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    wide = widen(q, k, v)
    return torch.utils.checkpoint.checkpoint(
        _checkpointed, *wide, visible, scale, use_reentrant=False
    ).to(q.dtype)


class _OwnBackward(torch.autograd.Function):
    """Softmax attention that keeps q, k and v alone; its backward is differentiable itself."""

    @staticmethod
    def forward(ctx, q, k, v, scale):
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        return (q @ k.mT * scale).softmax(-1) @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        p = (q @ k.mT * ctx.scale).softmax(-1)
        d = grad @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * ctx.scale
        return d @ k, d.mT @ q, p.mT @ grad, None


@right("a backward of its own with a right second derivative", of=SOFTMAX)
def own_backward(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None or causal:
        return exact(q, k, v, mask, causal, scale)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return _OwnBackward.apply(*widen(q, k, v), scale).to(q.dtype)


@right(
    "a NaN that is in no output and in no gradient",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.arange(12)[:, None].expand(12, 12) > 0},
)
def nan_that_is_filled(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return (scores.softmax(-1) @ v).to(dtype)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return (weights.masked_fill(~visible, 0.0) @ v).to(dtype)


_compiled = None


def _to_compile(q, k, v, scale):
    return (q @ k.mT * scale).softmax(-1) @ v


@right("compiled, with buffers that its backward gives away", of=SOFTMAX)
def compiled(q, k, v, *, mask=None, causal=False, scale=None):
    global _compiled
    if mask is not None or causal or q.device.type != "cpu":
        return exact(q, k, v, mask, causal, scale)
    if _compiled is None:
        _compiled = torch.compile(_to_compile, dynamic=True)
    wide = widen(q, k, v)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return _compiled(*wide, torch.tensor(scale, dtype=wide[0].dtype)).to(q.dtype)


@right("activation that is compiled", of=GELU)
def gelu_compiled_right(x):
    return _gelu()(x) if x.device.type == "cpu" else F.gelu(x)


@functools.cache
def _gelu():
    return torch.compile(F.gelu, dynamic=True, backend="aot_eager")
