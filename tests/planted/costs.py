"""Costs that are declared wrong, and forwards that are no second definition."""

from __future__ import annotations

import copy
import functools
import types

import torch
import torch.utils.checkpoint

import bakeoff
from bakeoff import Case
from planted.bases import (
    GELU,
    KERNEL,
    SOFTMAX,
    TANH,
    exact,
    reference_gelu,
    reference_residual,
    reference_softmax,
    visible_pairs,
    widen,
)
from planted.bases import RESIDUAL as RESIDUAL_BASE
from planted.corpus import fault

costs = functools.partial(fault, "costs")
UNVERIFIED = frozenset({"unverified"})


def pair_flops(case: Case) -> float:
    shape = case.attention_shape
    products = 2.0 * (shape.head_dim + shape.value_dim)
    return products * shape.batch * shape.heads * case.visible_pairs


def declares(cost: str, factor: float):
    """A witness: what is declared is this many times what two products cost."""

    def differs(variant: bakeoff.Variant) -> bool:
        shape = bakeoff.Shape(2, 2, 2, 16, 16, 8, 8)
        case = Case(kind="attention", shape=shape, pattern="self")
        declared = getattr(variant.forward("fast"), cost)(case)
        return abs(declared / pair_flops(case) - factor) < 0.01

    return differs


def half_the_flops(case: Case) -> float:
    return pair_flops(case) / 2


def twice_the_flops(case: Case) -> float:
    return pair_flops(case) * 2


def flops_of_one_example(case: Case) -> float:
    return pair_flops(case) / case.attention_shape.batch


def flops_without_heads(case: Case) -> float:
    return pair_flops(case) / case.attention_shape.heads


def flops_of_scores_alone(case: Case) -> float:
    shape = case.attention_shape
    return pair_flops(case) * shape.head_dim / (shape.head_dim + shape.value_dim)


@costs("FLOPs declared at half", of=SOFTMAX, flops=half_the_flops, witness=declares("flops", 0.5))
def flops_halved(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs("FLOPs declared at twice", of=SOFTMAX, flops=twice_the_flops, witness=declares("flops", 2))
def flops_doubled(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs(
    "FLOPs of one example declared for the batch",
    of=SOFTMAX,
    flops=flops_of_one_example,
    witness=declares("flops", 0.5),
)
def flops_without_batch(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs(
    "FLOPs of one head declared for all",
    of=SOFTMAX,
    flops=flops_without_heads,
    witness=declares("flops", 0.5),
)
def flops_of_one_head(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs(
    "FLOPs of the scores declared, not of the values",
    of=SOFTMAX,
    flops=flops_of_scores_alone,
    witness=declares("flops", 0.5),
)
def flops_of_the_scores(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


def too_many_bytes(case: Case) -> float:
    shape = case.attention_shape
    return 1000.0 * shape.batch * shape.heads * shape.q_len * shape.k_len * shape.head_dim


@costs(
    "least bytes declared far above what is moved",
    of=SOFTMAX,
    min_bytes=too_many_bytes,
    witness=lambda _: True,
)
def bytes_overstated(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs("complexity declared N, and it is N²", of=SOFTMAX, complexity="N", witness=lambda _: True)
def complexity_understated(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs("memory declared N, and it keeps N²", of=SOFTMAX, memory="N", witness=lambda _: True)
def memory_understated(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@costs(
    "memory declared N, and the weights are kept where gradients are wanted",
    of=KERNEL,
    complexity="N",
    memory="N",
    witness=lambda _: True,
)
def linear_by_name(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    weights = query @ key.mT
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights * visible
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ v).to(dtype)


@costs("complexity declared N² and it is N³", of=SOFTMAX, complexity="N^2", witness=lambda _: True)
def cubic(q, k, v, *, mask=None, causal=False, scale=None):
    one = torch.eye(k.shape[2], dtype=k.dtype, device=k.device)
    return exact(q, (one @ one) @ k, v, mask, causal, scale)


# The reference again


again = functools.partial(
    fault, "no second definition", expected=UNVERIFIED, witness=lambda _: True
)


@again("it calls the reference", of=SOFTMAX)
def calls_the_reference(q, k, v, *, mask=None, causal=False, scale=None):
    return reference_softmax(q, k, v, mask=mask, causal=causal, scale=scale)


def _handed_on(fn, *tensors, **keywords):
    return fn(*tensors, **keywords)


@again("it calls the reference through a wrapper", of=SOFTMAX)
def wraps_the_reference(q, k, v, *, mask=None, causal=False, scale=None):
    return _handed_on(reference_softmax, q, k, v, mask=mask, causal=causal, scale=scale)


_partly = functools.partial(reference_softmax)


@again("it calls a partial of the reference", of=SOFTMAX)
def partial_of_the_reference(q, k, v, *, mask=None, causal=False, scale=None):
    return _partly(q.contiguous(), k, v, mask=mask, causal=causal, scale=scale)


@again("it calls the reference for one example at a time", of=SOFTMAX)
def reference_by_example(q, k, v, *, mask=None, causal=False, scale=None):
    rows = []
    for i in range(q.shape[0]):
        own = mask[i : i + 1] if mask is not None and mask.dim() == 4 and len(mask) > 1 else mask
        one = slice(i, i + 1)
        rows.append(reference_softmax(q[one], k[one], v[one], mask=own, causal=causal, scale=scale))
    return torch.cat(rows)


_copy = types.FunctionType(
    reference_softmax.__code__,
    reference_softmax.__globals__,
    "copied",
    reference_softmax.__defaults__,
    reference_softmax.__closure__,
)
_copy.__kwdefaults__ = copy.copy(reference_softmax.__kwdefaults__)


@again("it calls a function made of the reference's code", of=SOFTMAX)
def code_of_the_reference(q, k, v, *, mask=None, causal=False, scale=None):
    return _copy(q, k, v, mask=mask, causal=causal, scale=scale)


@again("it checkpoints the reference", of=SOFTMAX)
def checkpoints_the_reference(q, k, v, *, mask=None, causal=False, scale=None):
    call = functools.partial(reference_softmax, mask=mask, causal=causal, scale=scale)
    return torch.utils.checkpoint.checkpoint(call, q, k, v, use_reentrant=False)


@again("it scales first, and then calls the reference", of=SOFTMAX)
def reference_after_scaling(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return reference_softmax(q * scale, k, v, mask=mask, causal=causal, scale=1.0)


@again("it calls the reference of an activation", of=GELU)
def gelu_again(x):
    return reference_gelu(x.clone())


@again("it calls the reference of a connection", of=RESIDUAL_BASE)
def residual_again(x, branch):
    return reference_residual(x, branch)


_BUILT_IN = bakeoff.load(entry_points=False, pyproject=False)["scaled_dot_product"]
_OF_BUILT_IN = bakeoff.Attention(
    "built_in_base",
    forwards={"reference": _BUILT_IN.forward("reference")},
    metadata=SOFTMAX.metadata,
)


@again("it finds the reference through the catalog", of=_OF_BUILT_IN)
def through_the_catalog(q, k, v, *, mask=None, causal=False, scale=None):
    fn = _BUILT_IN.forward("reference").fn
    return fn(q, k, v, mask=mask, causal=causal, scale=scale)


def calls_the_fast(q, k, v, *, mask=None, causal=False, scale=None):
    return fast_that_is_called(q, k, v, mask=mask, causal=causal, scale=scale)


_TURNED = bakeoff.Attention(
    "turned_base", forwards={"reference": calls_the_fast}, metadata=SOFTMAX.metadata
)


@again("the reference calls the fast one", of=_TURNED)
def fast_that_is_called(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


_TANHS = {"one": TANH.forward("reference").fn}


@again("it finds the reference in a table", of=TANH)
def tanh_of_a_table(x):
    return _TANHS["one"](x)
