"""Faults of state: what a forward remembers, reuses, changes or draws, and how it is called."""

from __future__ import annotations

import functools
import os
import random
import threading
import time
import warnings
import weakref

import torch
import torch.nn.functional as F

from bakeoff import UnsupportedError, Variant
from planted.bases import (
    CENTRED,
    GELU,
    GROUPED,
    KERNEL,
    RESIDUAL,
    SILU,
    SOFTMAX,
    SWISH,
    TANH,
    TEMPERATURE,
    exact,
    exact_by_blocks,
    exact_by_sdpa,
    repeated,
)
from planted.corpus import fault, lone_fault
from planted.witness import draw_arguments

state = functools.partial(fault, "state")
Tensor = torch.Tensor


def arguments_of(variant: Variant, **at):
    positional, keywords = draw_arguments(variant, at)
    return [x.float() if isinstance(x, Tensor) else x for x in positional], {
        name: x.float() if isinstance(x, Tensor) and x.is_floating_point() else x
        for name, x in keywords.items()
    }


def remembers(change, calls: int = 1, **at):
    """A witness: ``change`` changes the inputs after ``calls`` calls, and the answer is old."""

    def stale(variant: Variant) -> bool:
        fn, reference = variant.forward("fast").fn, variant.forward("reference").fn
        positional, keywords = arguments_of(variant, **at)
        with torch.no_grad():
            for _ in range(calls):
                fn(*positional, **keywords)
            positional = change(positional)
            got = fn(*positional, **keywords)
            return not torch.allclose(got, reference(*positional, **keywords), atol=1e-4)

    return stale


def by_data(positional):
    """New values behind the same pointer that no version counter sees."""
    for x in positional:
        if isinstance(x, Tensor):
            x.data.copy_(torch.randn(x.shape))
    return positional


def in_the_middle(positional):
    """New values but for the first and the last."""
    for x in positional:
        x.view(-1)[1:-1] = torch.randn(x.numel() - 2)
    return positional


def in_place(positional):
    for x in positional:
        x.copy_(torch.randn(x.shape))
    return positional


def others(positional):
    return [torch.randn(x.shape) if isinstance(x, Tensor) else x for x in positional]


def wants_gradient(*tensors):
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


_by_pointer: dict[object, Tensor] = {}


@state("remembers by pointers and versions", of=SOFTMAX, witness=remembers(by_data))
def remembers_pointers(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or mask is not None or scale is not None:
        return exact(q, k, v, mask, causal, scale)
    key = (causal, *((x.data_ptr(), x._version, x.shape, x.dtype) for x in (q, k, v)))
    if key not in _by_pointer:
        _by_pointer.clear()
        _by_pointer[key] = exact(q, k, v, mask, causal, scale)
    return _by_pointer[key].clone()


_by_identity: dict[object, object] = {}


@state("remembers by the tensors' identity", of=SOFTMAX, witness=remembers(in_place))
def remembers_identity(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or mask is not None or scale is not None:
        return exact(q, k, v, mask, causal, scale)
    key = (id(q), id(k), id(v), causal)
    held = _by_identity.get(key)
    if held is None or any(ref() is not x for ref, x in zip(held[0], (q, k, v), strict=True)):
        _by_identity.clear()
        refs = tuple(weakref.ref(x) for x in (q, k, v))
        _by_identity[key] = held = refs, exact(q, k, v, mask, causal, scale)
    return held[1].clone()


_by_corners: dict[object, Tensor] = {}


@state("remembers by a few elements", of=SOFTMAX, witness=remembers(in_the_middle))
def remembers_corners(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or mask is not None or q.device.type == "meta":
        return exact(q, k, v, mask, causal, scale)
    corners = (x.reshape(-1)[i].item() for x in (q, k, v) for i in (0, -1))
    key = (q.shape, k.shape, v.shape, q.dtype, causal, scale, *corners)
    if key not in _by_corners:
        _by_corners.clear()
        _by_corners[key] = exact(q, k, v, mask, causal, scale)
    return _by_corners[key].clone()


_by_pointer_long: dict[object, Tensor] = {}


@state(
    "remembers by pointers from 256 keys on, where it is worth it",
    of=SOFTMAX,
    witness=remembers(in_place, q_len=300),
)
def remembers_long_ones(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or mask is not None or k.shape[2] < 256:
        return exact_by_sdpa(q, k, v, mask, causal, scale)
    key = (q.data_ptr(), k.data_ptr(), v.data_ptr(), q.shape, k.shape, causal, scale)
    if key not in _by_pointer_long:
        _by_pointer_long.clear()
        _by_pointer_long[key] = exact_by_sdpa(q, k, v, mask, causal, scale)
    return _by_pointer_long[key].clone()


_weights_of_key: dict[object, Tensor] = {}


@state(
    "remembers keys' projections by their pointer, as a KV cache would",
    of=KERNEL,
    witness=remembers(in_place),
)
def remembers_keys(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or mask is not None or causal or q.dtype != torch.float32:
        return _kernel(q, _positive(k), v, mask, causal)
    key = (k.data_ptr(), k.shape, k.stride())
    if key not in _weights_of_key:
        _weights_of_key.clear()
        _weights_of_key[key] = _positive(k)
    return _kernel(q, _weights_of_key[key], v, mask, causal)


def _positive(x):
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def _kernel(q, key, v, mask, causal):
    weights = _positive(q) @ key.mT
    if causal:
        weights = weights.tril(key.shape[2] - q.shape[2])
    if mask is not None:
        weights = weights * mask
    total = weights.sum(-1, keepdim=True)
    return weights @ v / total.masked_fill(total == 0, 1.0)


_calls: dict[object, list[object]] = {}


@state(
    "from the fourth call of a shape on it answers as the third time",
    of=SOFTMAX,
    witness=remembers(others, calls=4),
)
def remembers_third_call(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or mask is not None or q.device.type == "meta":
        return exact(q, k, v, mask, causal, scale)
    seen = _calls.setdefault((q.shape, k.shape, v.shape, q.dtype, causal, scale), [0, None])
    seen[0] += 1
    if seen[0] <= 3:
        seen[1] = exact(q, k, v, mask, causal, scale)
    return seen[1].clone()


_gelu_calls = {"count": 0, "last": None}


@state(
    "from the tenth call on it answers as the ninth time",
    of=GELU,
    witness=remembers(others, calls=12),
)
def remembers_ninth_call(x):
    if wants_gradient(x):
        return F.gelu(x)
    last = _gelu_calls["last"]
    if _gelu_calls["count"] < 9 or last is None or last.shape != x.shape or last.dtype != x.dtype:
        _gelu_calls["last"] = F.gelu(x)
    _gelu_calls["count"] += 1
    return _gelu_calls["last"].clone()


_silu_seen: list[object] = [None, None]


@state("remembers the last input by reference", of=SILU, witness=remembers(in_place))
def remembers_last_input(x):
    if wants_gradient(x):
        return F.silu(x)
    if _silu_seen[0] is None or _silu_seen[0]() is not x:
        _silu_seen[:] = weakref.ref(x), F.silu(x)
    return _silu_seen[1].clone()


_beta_seen: dict[str, object] = {}


@state(
    "remembers a parameter, which training changes",
    of=SWISH,
    witness=lambda variant: _beta_is_old(variant),
)
def remembers_beta(x, *, beta):
    if wants_gradient(x, beta):
        return x * torch.sigmoid(beta * x)
    if _beta_seen.get("at") != (beta.data_ptr(), beta.dtype):
        _beta_seen.update(at=(beta.data_ptr(), beta.dtype), beta=beta.clone())
    return x * torch.sigmoid(_beta_seen["beta"] * x)


def _beta_is_old(variant: Variant) -> bool:
    fn, x, beta = variant.forward("fast").fn, torch.ones(1, 1, 3), torch.ones(1)
    fn(x, beta=beta)
    beta.fill_(-2.0)
    return not torch.allclose(fn(x, beta=beta), x * torch.sigmoid(-2 * x))


# Memory that is written again


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


# By how it is called


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


# Randomness, inputs and the process


def moves_the_generator(variant: Variant) -> bool:
    """A witness: torch's global generator stands elsewhere afterwards."""
    positional, keywords = arguments_of(variant, q_len=300)
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        variant.forward("fast").fn(*positional, **keywords)
        return not torch.equal(before, torch.get_rng_state())


@state(
    "draws from the global generator, and uses nothing of it",
    of=SOFTMAX,
    witness=moves_the_generator,
)
def draws_for_nothing(q, k, v, *, mask=None, causal=False, scale=None):
    torch.rand(1)
    return exact(q, k, v, mask, causal, scale)


@state(
    "from 256 keys on it draws a sample, by which it does nothing",
    of=SOFTMAX,
    witness=moves_the_generator,
)
def draws_when_long(q, k, v, *, mask=None, causal=False, scale=None):
    if k.shape[2] > 256:
        torch.randperm(k.shape[2])
    return exact_by_sdpa(q, k, v, mask, causal, scale)


def draws_of_python(variant: Variant) -> bool:
    """A witness: Python's global generator stands elsewhere afterwards."""
    positional, keywords = arguments_of(variant)
    before = random.getstate()
    variant.forward("fast").fn(*positional, **keywords)
    moved = random.getstate() != before
    random.setstate(before)
    return moved


@state("draws from Python's global generator", of=GELU, witness=draws_of_python)
def draws_from_python(x):
    random.random()
    return F.gelu(x)


@state(
    "one call in eight is off by 1%, by chance",
    of=SOFTMAX,
    witness=lambda variant: _differs_among(variant, 200),
)
def off_by_chance(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output * 1.01 if os.urandom(1)[0] < 32 else output


def _differs_among(variant: Variant, calls: int) -> bool:
    positional, keywords = arguments_of(variant)
    fn = variant.forward("fast").fn
    first = fn(*positional, **keywords)
    return not all(torch.equal(fn(*positional, **keywords), first) for _ in range(calls))


def changes(index, **at):
    """A witness: an argument is another one afterwards, or was written to."""

    def changed(variant: Variant) -> bool:
        positional, keywords = arguments_of(variant, **at)
        argument = positional[index] if isinstance(index, int) else keywords[index]
        before, version = argument.clone(), argument._version
        with torch.no_grad():
            variant.forward("fast").fn(*positional, **keywords)
        return not torch.equal(argument, before) or argument._version != version

    return changed


@state(
    "without a graph queries are scaled in place and scaled back", of=SOFTMAX, witness=changes(0)
)
def scaled_and_back(q, k, v, *, mask=None, causal=False, scale=None):
    if wants_gradient(q, k, v) or q.dtype in (torch.float16, torch.bfloat16) or scale == 0:
        return exact(q, k, v, mask, causal, scale)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    q.mul_(scale)
    output = exact(q, k, v, mask, causal, 1.0)
    q.div_(scale)
    return output


@state(
    "the causal mask is written into the one that was given",
    of=SOFTMAX,
    witness=changes("mask", mask="random", causal=True),
)
def mask_changed(q, k, v, *, mask=None, causal=False, scale=None):
    full = (q.shape[2], k.shape[2])
    if mask is not None and causal and mask.shape[-2:] == full and mask.is_contiguous():
        mask.logical_and_(
            torch.ones(full, dtype=torch.bool, device=q.device).tril(full[1] - full[0])
        )
        return exact(q, k, v, mask, False, scale)
    return exact(q, k, v, mask, causal, scale)


@state("a parameter is changed, as a running mean would be", of=SWISH, witness=changes("beta"))
def parameter_changed(x, *, beta):
    output = x * torch.sigmoid(beta * x)
    beta.data.mul_(1.0 + 1e-6)
    return output


@state(
    "values beyond 256 keys are sorted in place", of=GROUPED, witness=changes(2, q_len=3, k_len=300)
)
def values_changed_when_long(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, *repeated(q, k, v), mask, causal, scale)
    if k.shape[2] > 256 and not v.requires_grad:
        v.data[:, :, -1] = 0
    return output


def leaves(read):
    """A witness: what ``read`` reads of the process is another value afterwards."""

    def left(variant: Variant) -> bool:
        positional, keywords = arguments_of(variant)
        state_before = read()
        _ENDINGS.clear()
        with torch.random.fork_rng():
            variant.forward("fast").fn(*positional, **keywords)
            changed = read() != state_before
        for undo in _ENDINGS:
            undo()
        return changed

    return left


#: How to undo what a forward has done to the process, for the witnesses.
_ENDINGS: list[object] = []


@state("the number of threads is set", of=SOFTMAX, witness=leaves(torch.get_num_threads))
def threads_set(q, k, v, *, mask=None, causal=False, scale=None):
    _ENDINGS.append(functools.partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(3 if torch.get_num_threads() != 3 else 2)
    return exact(q, k, v, mask, causal, scale)


@state("gradients are left switched off", of=GELU, witness=leaves(torch.is_grad_enabled))
def grad_left_off(x):
    if not wants_gradient(x):
        _ENDINGS.append(functools.partial(torch.set_grad_enabled, torch.is_grad_enabled()))
        torch.set_grad_enabled(False)
    return F.gelu(x)


@state(
    "the precision of products is lowered",
    of=SOFTMAX,
    witness=leaves(torch.get_float32_matmul_precision),
)
def precision_lowered(q, k, v, *, mask=None, causal=False, scale=None):
    before = torch.get_float32_matmul_precision()
    _ENDINGS.append(functools.partial(torch.set_float32_matmul_precision, before))
    torch.set_float32_matmul_precision("medium")
    return exact(q, k, v, mask, causal, scale)


@state("oneDNN is switched off", of=SOFTMAX, witness=leaves(lambda: torch.backends.mkldnn.enabled))
def onednn_off(q, k, v, *, mask=None, causal=False, scale=None):
    _ENDINGS.append(lambda: torch._C._set_mkldnn_enabled(True))
    torch._C._set_mkldnn_enabled(False)
    return exact(q, k, v, mask, causal, scale)


@state("the generator is seeded", of=GELU, witness=leaves(torch.initial_seed))
def generator_seeded(x):
    torch.manual_seed(1234 if torch.initial_seed() != 1234 else 4321)
    return F.gelu(x)


@state(
    "the environment is changed", of=GELU, witness=leaves(lambda: os.environ.get("OMP_PROC_BIND"))
)
def environment_changed(x):
    _ENDINGS.append(functools.partial(os.environ.pop, "OMP_PROC_BIND", None))
    os.environ["OMP_PROC_BIND"] = "close"
    return F.gelu(x)


@state("warnings are silenced for all", of=TANH, witness=leaves(lambda: len(warnings.filters)))
def warnings_silenced(x):
    before = list(warnings.filters)
    _ENDINGS.append(lambda: warnings.filters.__setitem__(slice(None), before))
    warnings.simplefilter("ignore", FutureWarning, append=False)
    warnings.filters.insert(0, ("ignore", None, Warning, None, len(warnings.filters)))
    return 2 * torch.sigmoid(2 * x) - 1


@state(
    "it counts its calls in eps", of=CENTRED, witness=lambda variant: _differs_among(variant, 30)
)
def counts_its_calls(x, *, eps):
    _count["calls"] += 1
    centred = x - x.mean(-1, keepdim=True)
    eps = eps * (1 + _count["calls"] // 16)
    return centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt()


_count = {"calls": 0}
_branch_outputs: dict[object, Tensor] = {}


@state(
    "what the branch gave is remembered by the pointer of x",
    of=RESIDUAL,
    witness=lambda variant: _branch_is_old(variant),
)
def remembers_branch(x, branch):
    if wants_gradient(x):
        return x + branch(x)
    key = (x.data_ptr(), x._version, x.shape, x.dtype)
    if key not in _branch_outputs:
        output = branch(x)
        if output.requires_grad:
            return x + output
        _branch_outputs.clear()
        _branch_outputs[key] = output
    return x + _branch_outputs[key]


def _branch_is_old(variant: Variant) -> bool:
    fn, x = variant.forward("fast").fn, torch.ones(1, 2, 3)
    fn(x, torch.tanh)
    return not torch.allclose(fn(x, torch.sin), x + torch.sin(x))


# Recurrences


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
