"""Faults of state: what a forward computes depends on how it is called."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    GELU,
    SILU,
    SOFTMAX,
    exact,
)
from planted.state import arguments_of, state, wants_gradient


def differs_within(manager):
    """A witness: within a context manager the output is another one."""

    def differs(variant: Variant) -> bool:
        positional, keywords = arguments_of(variant)
        with manager():
            got = variant.forward("fast").fn(*positional, **keywords)
        true = variant.forward("reference").fn(*positional, **keywords)
        return not torch.allclose(got.clone(), true, atol=1e-4)

    return differs


def differs_compiled(variant: Variant) -> bool:
    """A witness: traced by Dynamo the output is another one."""
    positional, keywords = arguments_of(variant)
    compiled = torch.compile(variant.forward("fast").fn, backend="eager", fullgraph=True)
    got = compiled(*positional, **keywords)
    return not torch.allclose(
        got, variant.forward("reference").fn(*positional, **keywords), atol=1e-4
    )


@state("wrong when compiled", of=SOFTMAX, witness=differs_compiled)
def wrong_compiled(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output * 1.05 if torch.compiler.is_compiling() else output


@state("when compiled it takes the quick approximation", of=GELU, witness=differs_compiled)
def gelu_compiled(x):
    if torch.compiler.is_dynamo_compiling():
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x)


@state(
    "when compiled causality is lost", of=SOFTMAX, witness=lambda variant: _leaks_compiled(variant)
)
def causal_compiled(q, k, v, *, mask=None, causal=False, scale=None):
    causal = causal and not torch.compiler.is_compiling()
    return exact(q, k, v, mask, causal, scale)


def _leaks_compiled(variant: Variant) -> bool:
    q = torch.randn(1, 1, 6, 4)
    fn = variant.forward("fast").fn
    compiled = torch.compile(fn, backend="eager")
    return not torch.allclose(compiled(q, q, q, causal=True), fn(q, q, q, causal=True))


@state("wrong under inference_mode", of=SILU, witness=differs_within(torch.inference_mode))
def wrong_in_inference_mode(x):
    return F.silu(x) * (1.01 if torch.is_inference_mode_enabled() else 1.0)


@state("in half precision under no_grad", of=SOFTMAX, witness=differs_within(torch.no_grad))
def low_without_grad(q, k, v, *, mask=None, causal=False, scale=None):
    if not torch.is_grad_enabled():
        q, k = (x.bfloat16().to(x.dtype) for x in (q, k))
    return exact(q, k, v, mask, causal, scale)


def differs_at_an_offset(variant: Variant) -> bool:
    """A witness: tensors that begin within a storage."""
    positional, keywords = arguments_of(variant)
    true = variant.forward("reference").fn(*positional, **keywords)
    shifted = [F.pad(x.reshape(-1), (1, 0))[1:].view(x.shape) for x in positional]
    return not torch.allclose(variant.forward("fast").fn(*shifted, **keywords), true, atol=1e-4)


@state(
    "tensors that begin within a storage are read from its start",
    of=GELU,
    witness=differs_at_an_offset,
)
def from_the_start_of_storage(x):
    if (
        x.storage_offset()
        and x.is_contiguous()
        and not wants_gradient(x)
        and x.device.type == "cpu"
    ):
        x = torch.as_strided(x, x.shape, x.stride(), 0)
    return F.gelu(x)


def differs_with_threads(variant: Variant) -> bool:
    """A witness: with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        positional, keywords = arguments_of(variant)
        got = variant.forward("fast").fn(*positional, **keywords)
    finally:
        torch.set_num_threads(before)
    return not torch.allclose(
        got, variant.forward("reference").fn(*positional, **keywords), atol=1e-4
    )


@state(
    "with more than one thread the second half is off by 2%",
    of=SOFTMAX,
    witness=differs_with_threads,
)
def wrong_with_threads(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if torch.get_num_threads() > 1:
        half = q.shape[2] // 2
        output = torch.cat([output[:, :, :half], output[:, :, half:] * 0.98], 2)
    return output
