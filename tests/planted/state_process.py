"""Faults of state: randomness, changed arguments, and what is done to the process."""

from __future__ import annotations

import functools
import os
import random
import warnings

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    CENTRED,
    GELU,
    GROUPED,
    RESIDUAL,
    SOFTMAX,
    SWISH,
    TANH,
    exact,
    exact_by_sdpa,
    repeated,
)
from planted.state import Tensor, arguments_of, state, wants_gradient


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
