"""Faults of state: memory that is written again, and work that is put off."""

from __future__ import annotations

import functools
import threading
import time

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    GELU,
    SOFTMAX,
    TEMPERATURE,
    exact,
    exact_by_sdpa,
)
from planted.state import Tensor, arguments_of, others, state, wants_gradient


def written_again(**at):
    """A witness: a second call changes what the first one gave."""

    def changes(variant: Variant) -> bool:
        fn = variant.forward("fast").fn
        positional, keywords = arguments_of(variant, **at)
        with torch.no_grad():
            first = fn(*positional, **keywords)
            before = first.clone()
            fn(*others(positional), **keywords)
        return not torch.equal(first, before)

    return changes


_workspace: dict[object, Tensor] = {}


@state("returns a buffer that the next call writes again", of=SOFTMAX, witness=written_again())
def buffer_again(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if wants_gradient(q, k, v):
        return output
    key = (output.shape, output.dtype, output.device)
    if key not in _workspace:
        _workspace[key] = torch.empty_like(output)
    return _workspace[key].copy_(output)


_large: dict[object, Tensor] = {}


@state(
    "returns a view of one buffer for all large outputs",
    of=SOFTMAX,
    witness=written_again(q_len=300, head_dim=32),
)
def large_buffer_again(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact_by_sdpa(q, k, v, mask, causal, scale)
    if wants_gradient(q, k, v) or output.numel() < 10_000:
        return output
    key = (output.dtype, output.device)
    if key not in _large or _large[key].numel() < output.numel():
        _large[key] = torch.empty(output.numel(), dtype=output.dtype, device=output.device)
    return _large[key][: output.numel()].view(output.shape).copy_(output)


_two: list[object] = []


@state(
    "two buffers in turn, so that the call after the next writes again",
    of=GELU,
    witness=lambda variant: _third_call_writes(variant),
)
def buffers_in_turn(x):
    output = F.gelu(x)
    if wants_gradient(x):
        return output
    if (
        not _two
        or _two[0].shape != x.shape
        or _two[0].dtype != x.dtype
        or _two[0].device != x.device
    ):
        _two[:] = torch.empty_like(output), torch.empty_like(output)
    _two.reverse()
    return _two[0].copy_(output)


def _third_call_writes(variant: Variant) -> bool:
    fn = variant.forward("fast").fn
    first = fn(torch.ones(2, 3, 4))
    before = first.clone()
    fn(torch.zeros(2, 3, 4))
    fn(torch.zeros(2, 3, 4))
    return not torch.equal(first, before)


@state(
    "without a graph it writes into the values and returns them",
    of=TEMPERATURE,
    witness=lambda variant: _shares_memory(variant),
)
def returns_the_values(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    if not wants_gradient(q, k, v, log_temperature) and mask is None:
        factor = log_temperature.exp()[:, None, None]
        output = exact((q * factor).to(q.dtype), k, v, mask, causal, scale)
        if output.shape == v.shape and v.is_contiguous():
            v.data.copy_(output)
            return v
        return output
    factor = log_temperature.exp()[:, None, None]
    return exact((q * factor).to(q.dtype), k, v, mask, causal, scale)


def _shares_memory(variant: Variant) -> bool:
    positional, keywords = arguments_of(variant)
    output = variant.forward("fast").fn(*positional, **keywords)
    return output.data_ptr() == positional[2].data_ptr()


# Work that is put off


def late(variant: Variant) -> bool:
    """A witness: at once the output is not yet what it will be."""
    positional, keywords = arguments_of(variant)
    with torch.no_grad():
        output = variant.forward("fast").fn(*positional, **keywords)
        if type(output) is not Tensor:
            return True
        before = output.clone()
        time.sleep(0.1)
        return not torch.equal(before, output)


@state("a thread writes the output a little later", of=SOFTMAX, witness=late)
def thread_writes_later(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or q.device.type == "meta":
        return exact(q, k, v, mask, causal, scale)
    output = q.new_zeros(*q.shape[:3], v.shape[3])

    def write():
        time.sleep(0.02)
        with torch.no_grad():
            output.copy_(exact(q, k, v, mask, causal, scale))

    threading.Thread(target=write, daemon=True).start()
    return output


class Lazy(torch.Tensor):
    """Computes when it is used for the first time."""

    @staticmethod
    def of(compute, shape, like):
        lazy = like.new_empty(shape).as_subclass(Lazy)
        lazy.compute = compute
        return lazy

    def value(self):
        compute = self.__dict__.pop("compute", None)
        plain = self.as_subclass(torch.Tensor)
        if compute is not None:
            plain.copy_(compute())
        return plain

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            args = tuple(
                a.value()
                if isinstance(a, Lazy) and "compute" in a.__dict__ and function not in _BARE
                else a
                for a in args
            )
            return function(*args, **(kwargs or {}))


_BARE = {
    torch.Tensor.as_subclass,
    torch.Tensor.shape.__get__,
    torch.Tensor.dtype.__get__,
    torch.Tensor.device.__get__,
    torch.Tensor.requires_grad.__get__,
}


@state("returns a tensor that computes when it is read", of=SOFTMAX, witness=late)
def lazy_result(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or q.device.type == "meta":
        return exact(q, k, v, mask, causal, scale)
    compute = functools.partial(exact, q, k, v, mask, causal, scale)
    return Lazy.of(compute, (*q.shape[:3], v.shape[3]), q)


@state("the last rows are written by a thread that is not waited for", of=GELU, witness=late)
def rest_in_a_thread(x):
    if wants_gradient(x) or x.device.type == "meta" or x.dim() < 3:
        return F.gelu(x)
    output = F.gelu(x)
    rest = output[-1].clone()
    output[-1] = 0

    def write():
        time.sleep(0.005)
        with torch.no_grad():
            output[-1] = rest

    threading.Thread(target=write, daemon=True).start()
    return output
