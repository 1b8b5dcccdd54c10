"""Forwards that owe their answer to other calls, or give it later: each is made anew, fresh."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from test_wrong_variants import right

__all__ = ["PLANTED", "Fast"]

Tensor = torch.Tensor
Fast = Callable[..., Tensor]


def _caching(key: Callable[..., Any]) -> Fast:
    seen: dict[Any, Tensor] = {}

    def fast(q, k, v, *, mask=None, causal=False, scale=None):
        if (torch.is_grad_enabled() and q.requires_grad) or mask is not None or scale is not None:
            return right(q, k, v, mask=mask, causal=causal, scale=scale)
        where = (causal, *map(key, (q, k, v)))
        if where not in seen:
            seen.clear()
            seen[where] = right(q, k, v, causal=causal)
        return seen[where].clone()

    return fast


def by_pointer_and_version() -> Fast:
    return _caching(lambda t: (t.data_ptr(), t.shape, t.dtype, t.is_inference() or t._version))


def by_identity() -> Fast:
    return _caching(id)


def by_first_values() -> Fast:
    return _caching(lambda t: (t.shape, t.dtype, tuple(t.reshape(-1)[:4].tolist())))


def by_first_and_last_values() -> Fast:
    return _caching(lambda t: (t.shape, t.dtype, t.reshape(-1)[[0, 1, -2, -1]].tolist().__repr__()))


def by_sum() -> Fast:
    return _caching(lambda t: (t.shape, t.dtype, round(float(t.double().sum()), 3)))


class _Remembered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, seen, q, k, v, causal):
        ctx.seen, ctx.causal = seen, causal
        ctx.save_for_backward(q, k, v)
        return right(q, k, v, causal=causal)

    @staticmethod
    def backward(ctx, gradient):
        leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        where = (ctx.causal, *(t.data_ptr() for t in ctx.saved_tensors))
        if where not in ctx.seen:
            ctx.seen.clear()
            with torch.enable_grad():
                output = right(*leaves, causal=ctx.causal)
            ctx.seen[where] = torch.autograd.grad(output, leaves, gradient)
        return (None, *(g.clone() for g in ctx.seen[where]), None)


def its_backward() -> Fast:
    seen: dict[Any, Any] = {}

    def fast(q, k, v, *, mask=None, causal=False, scale=None):
        if mask is not None or scale is not None:
            return right(q, k, v, mask=mask, causal=causal, scale=scale)
        return _Remembered.apply(seen, q, k, v, causal)

    return fast


def _writing_again(count: int) -> Fast:
    buffers: dict[Any, itertools.cycle[Tensor]] = {}

    def fast(q, k, v, *, mask=None, causal=False, scale=None):
        output = right(q, k, v, mask=mask, causal=causal, scale=scale)
        if output.requires_grad:
            return output
        where = (output.shape, output.dtype)
        if where not in buffers:
            # Made outside of inference mode, in which it may be written all the same.
            with torch.inference_mode(False):
                made = [torch.empty(output.shape, dtype=output.dtype) for _ in range(count)]
            buffers[where] = itertools.cycle(made)
        return next(buffers[where]).copy_(output)

    return fast


def in_one_buffer() -> Fast:
    return _writing_again(1)


def in_two_buffers_in_turn() -> Fast:
    return _writing_again(2)


def _from_a_call_on(first: int, then: Callable[[Tensor], Tensor]) -> Fast:
    calls = itertools.count()

    def fast(q, k, v, *, mask=None, causal=False, scale=None):
        output = right(q, k, v, mask=mask, causal=causal, scale=scale)
        return output if next(calls) < first else then(output)

    return fast


def zeros_from_some_call_on() -> Fast:
    return _from_a_call_on(12, lambda output: output * 0)


def slightly_off_from_some_call_on() -> Fast:
    return _from_a_call_on(12, lambda output: output * 1.02)


class Lazy(torch.Tensor):
    """Computes when something is done with it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        def computed(value: Any) -> Any:
            if isinstance(value, Lazy):
                return value.promise()
            return [computed(v) for v in value] if isinstance(value, (list, tuple)) else value

        with torch._C.DisableTorchFunctionSubclass():
            return function(*computed(args), **(kwargs or {}))


def lazily() -> Fast:
    def fast(q, k, v, *, mask=None, causal=False, scale=None):
        if torch.is_grad_enabled() and q.requires_grad:
            return right(q, k, v, mask=mask, causal=causal, scale=scale)
        output = v.new_empty((*q.shape[:-1], v.shape[-1])).as_subclass(Lazy)
        output.promise = lambda: right(q, k, v, mask=mask, causal=causal, scale=scale)
        return output

    return fast


def in_a_thread() -> Fast:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()  # it runs before the first call, so that none starts it

    def fast(q, k, v, *, mask=None, causal=False, scale=None):
        if torch.is_grad_enabled() and q.requires_grad:
            return right(q, k, v, mask=mask, causal=causal, scale=scale)
        output = torch.empty((*q.shape[:-1], v.shape[-1]), dtype=v.dtype)

        def compute() -> None:
            time.sleep(0.002)
            with torch.no_grad():
                output.copy_(right(q, k, v, mask=mask, causal=causal, scale=scale))

        pool.submit(compute)
        return output

    return fast


#: What is planted, and the probe that must notice it.
PLANTED: dict[Callable[[], Fast], str] = {
    by_pointer_and_version: "fresh_values",
    by_identity: "fresh_values",
    by_first_values: "fresh_values",
    by_first_and_last_values: "fresh_values",
    by_sum: "fresh_values",
    its_backward: "fresh_values",
    in_one_buffer: "outputs_kept",
    in_two_buffers_in_turn: "outputs_kept",
    zeros_from_some_call_on: "many_calls",
    slightly_off_from_some_call_on: "many_calls",
    lazily: "computed_at_return",
    in_a_thread: "computed_at_return",
}
