"""Recurrences that are not the forward."""

from __future__ import annotations

import functools

import torch

from bakeoff import UnsupportedError, Variant
from planted.bases import (
    SOFTMAX,
    exact,
    exact_by_blocks,
)
from planted.corpus import lone_fault


def _softmax_state(q, k, v, state=None, *, mask=None, causal=True, scale=None):
    if state is not None:
        k, v = torch.cat([state[0], k], 2), torch.cat([state[1], v], 2)
    if mask is not None and mask.shape[-1] < k.shape[2]:
        raise UnsupportedError("masks are not split")
    return exact(q, k, v, mask, True, scale), (k, v)


def drops_at_one(q, k, v, state=None, *, mask=None, causal=True, scale=None):
    if mask is not None:
        raise UnsupportedError("masks are not split")
    output, (keys, values) = _softmax_state(q, k, v, state, causal=True, scale=scale)
    if k.shape[2] == 1 and keys.shape[2] > 2:
        keys, values = keys[:, :, 1:], values[:, :, 1:]
    return output, (keys, values)


def detaches_its_state(q, k, v, state=None, *, mask=None, causal=True, scale=None):
    if mask is not None:
        raise UnsupportedError("masks are not split")
    output, kept = _softmax_state(q, k, v, state, causal=True, scale=scale)
    return output, tuple(x.detach() for x in kept)


def forgets_beyond_40(q, k, v, state=None, *, mask=None, causal=True, scale=None):
    if mask is not None:
        raise UnsupportedError("masks are not split")
    output, kept = _softmax_state(q, k, v, state, causal=True, scale=scale)
    return output, tuple(x[:, :, -16:] for x in kept)


def split_differs(variant: Variant, gradient: bool = False) -> bool:
    """A witness: one step at a time gives another output, or another gradient."""
    q = torch.randn(1, 1, 24, 4, dtype=torch.float64, requires_grad=True)
    whole = variant.recurrence(q, q, q)[0]
    state_now, parts = None, []
    for i in range(0, 24, 1 if not gradient else 6):
        part = q[:, :, i : i + (1 if not gradient else 6)]
        output, state_now = variant.recurrence(part, part, part, state_now)
        parts.append(output)
    split = torch.cat(parts, 2)
    if not gradient:
        return not torch.allclose(split, whole)
    (a,), (b,) = (torch.autograd.grad(y.square().sum(), q) for y in (whole, split))
    return not torch.allclose(a, b)


recurrence_fault = functools.partial(lone_fault, "state", of=SOFTMAX)


@recurrence_fault(
    "its recurrence drops a key at each single step", recurrence=drops_at_one, witness=split_differs
)
def recurrence_drops(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@recurrence_fault(
    "its recurrence's state is detached",
    recurrence=detaches_its_state,
    witness=functools.partial(split_differs, gradient=True),
)
def recurrence_detached(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_blocks(q, k, v, mask, causal, scale)


@recurrence_fault(
    "its recurrence keeps the last 16 keys", recurrence=forgets_beyond_40, witness=split_differs
)
def recurrence_forgets(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)
