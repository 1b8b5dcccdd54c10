"""Linear, gated and delta forms against loops over tokens: outputs, states, gradients, splits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bakeoff
from bakeoff import Shape
from bakeoff.registry.variants import Attention
from bakeoff.suites.tensors import Arguments, arguments_for

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
RECURRENT = [v for v in CATALOG.select(kind="attention") if v.recurrence]
over_recurrent = pytest.mark.parametrize("variant", RECURRENT, ids=[v.name for v in RECURRENT])

Tensor = torch.Tensor


def arguments(variant: Attention, length: int, seed: int = 0, pattern: str = "causal_self"):
    """The arguments of a causal call, in float64, each a leaf."""
    case = bakeoff.Case(
        kind="attention",
        shape=Shape(2, 3, 3, length, length, 8, 6),
        pattern=pattern,
        options=variant.options,
        dtype="float64",
        seed=seed,
    )
    return arguments_for(variant, case).requiring_grad()


def part(given: Arguments, start: int, end: int, state: Any) -> Arguments:
    """Tokens ``start`` to ``end`` of a sequence, to be read after ``state``."""
    data = {name: tensor[:, :, start:end] for name, tensor in given.data.items()}
    # What is given for each token is cut like the tokens, and what is given for each head is not.
    length = given.data["k"].shape[2]
    inputs = {
        name: tensor[:, :, start:end] if tensor.dim() > 2 and tensor.shape[2] == length else tensor
        for name, tensor in given.given.items()
    }
    return given.replacing(data).replacing(inputs).having(state=state)


def leaves_of(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [t for s in state for t in leaves_of(s)]


def gradients(outputs: list[Tensor], given: Arguments) -> dict[str, Tensor]:
    """Of a product of the outputs with fixed numbers, by every leaf."""
    total = sum(
        (x * torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in outputs
    )
    leaves = given.leaves()
    found = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


@over_recurrent
@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    seed=st.integers(0, 5),
)
def test_split_anywhere(variant: Attention, cuts: list[int], seed: int) -> None:
    """All at once, in parts, and as the reference: outputs, final states and gradients."""
    given = arguments(variant, sum(cuts), seed)
    whole, last = given.having(state=None).call(variant.recurrence)
    state, outputs, start = None, [], 0
    for length in cuts:
        output, state = part(given, start, start + length, state).call(variant.recurrence)
        outputs.append(output)
        start += length
    joined = torch.cat(outputs, 2)
    torch.testing.assert_close(joined, whole, rtol=1e-9, atol=1e-10)
    for one, other in zip(leaves_of(state), leaves_of(last), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    expected = gradients([whole, *leaves_of(last)], given)
    found = gradients([joined, *leaves_of(state)], given)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-8, atol=1e-9)
    reference = given.call(variant.forward("reference").fn)
    torch.testing.assert_close(whole, reference, rtol=1e-9, atol=1e-10)


@over_recurrent
def test_forgetting_the_state_shows(variant: Attention) -> None:
    given = arguments(variant, 20)
    whole, _ = given.having(state=None).call(variant.recurrence)
    output, _ = part(given, 10, 20, None).call(variant.recurrence)
    assert (output - whole[:, :, 10:]).abs().max() > 1e-3


def loops(name: str, given: Arguments) -> Tensor:
    """The recurrence of the paper, for one head and one token at a time."""
    q, k, v = given.data.values()
    more = {**given.learned, **given.given, **given.fixed}
    output = torch.zeros_like(v)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            step = STEPS[name](h, q.shape[-1], v.shape[-1], more)
            for t in range(q.shape[2]):
                output[b, h, t] = step(q[b, h, t], k[b, h, t], v[b, h, t], b, t)
    return output


def linear_step(h: int, dim: int, width: int, more: Any):
    state, total = torch.zeros(dim, width).double(), torch.zeros(dim).double()

    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    def step(q: Tensor, k: Tensor, v: Tensor, b: int, t: int) -> Tensor:
        state.add_(torch.outer(phi(k), v))
        total.add_(phi(k))
        return phi(q) @ state / (phi(q) @ total)

    return step


def performer_step(h: int, dim: int, width: int, more: Any):
    omega = more["projection"]
    state, total = torch.zeros(len(omega), width).double(), torch.zeros(len(omega)).double()

    def phi(x: Tensor) -> Tensor:
        x = x / dim**0.25
        return torch.exp(omega @ x - x @ x / 2)

    def step(q: Tensor, k: Tensor, v: Tensor, b: int, t: int) -> Tensor:
        state.add_(torch.outer(phi(k), v))
        total.add_(phi(k))
        return phi(q) @ state / (phi(q) @ total)

    return step


def retention_step(h: int, dim: int, width: int, more: Any):
    state = torch.zeros(dim, width).double()

    def step(q: Tensor, k: Tensor, v: Tensor, b: int, t: int) -> Tensor:
        state.mul_(1 - 2.0 ** (-5 - h)).add_(torch.outer(k, v))
        return q @ state / math.sqrt(dim)

    return step


def gated_step(h: int, dim: int, width: int, more: Any):
    state = torch.zeros(dim, width).double()

    def step(q: Tensor, k: Tensor, v: Tensor, b: int, t: int) -> Tensor:
        for feature in range(dim):
            state[feature] *= math.exp(more["log_gate"][b, h, t, feature])
            state[feature] += k[feature] * v
        return q @ state / math.sqrt(dim)

    return step


def delta_step(h: int, dim: int, width: int, more: Any):
    state = torch.zeros(width, dim).double()

    def step(q: Tensor, k: Tensor, v: Tensor, b: int, t: int) -> Tensor:
        k = k / k.square().sum().sqrt()
        beta = more["beta"][b, h, t]
        erased = state @ (torch.eye(dim).double() - beta * torch.outer(k, k))
        state.copy_(erased + beta * torch.outer(v, k))
        return state @ (q / q.square().sum().sqrt()) / math.sqrt(dim)

    return step


STEPS: dict[str, Any] = {
    "linear_attention": linear_step,
    "performer": performer_step,
    "retention": retention_step,
    "gated_linear": gated_step,
    "delta_rule": delta_step,
}


@pytest.mark.parametrize("name", STEPS)
def test_every_form_is_the_loop_over_tokens(name: str) -> None:
    variant = CATALOG[name]
    with torch.no_grad():
        given = arguments(variant, 9)
        expected = loops(name, given)
        for forward in variant.forwards.values():
            torch.testing.assert_close(given.call(forward.fn), expected, rtol=1e-10, atol=1e-11)


def test_linear_attention_without_causality() -> None:
    """Against one query at a time, in plain Python."""
    q, k, v = arguments(CATALOG["linear_attention"], 7).data.values()
    phi = [torch.where(x > 0, x + 1, x.exp()) for x in (q, k)]
    for name in ("reference", "linear"):
        found = CATALOG["linear_attention"].forward(name).fn(q, k, v)
        for i in range(7):
            weights = [(phi[0][0, 1, i] * phi[1][0, 1, j]).sum() for j in range(7)]
            expected = sum(w * v[0, 1, j] for j, w in enumerate(weights)) / sum(weights)
            torch.testing.assert_close(found[0, 1, i], expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(7, 7), (70, 70), (4, 9), (9, 4)])
def test_cosformer_pair_by_pair(sizes: tuple[int, int], causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, 8, generator=generator).double() for n in (*sizes, sizes[1]))
    q_len, k_len = sizes
    expected = torch.zeros(q_len, 8).double()
    for row in range(q_len):
        i = row + k_len - q_len
        keys = [j for j in range(k_len) if j <= i or not causal]
        weights = [
            (q[0, 0, row].clamp(min=0) * k[0, 0, j].clamp(min=0)).sum()
            * math.cos(math.pi / 2 * (i - j) / max(sizes))
            for j in keys
        ]
        if sum(weights) > 0:
            values = sum(w * v[0, 0, j] for w, j in zip(weights, keys, strict=True))
            expected[row] = values / sum(weights)
    for name in ("reference", "linear"):
        found = CATALOG["cosformer"].forward(name).fn(q, k, v, causal=causal)
        torch.testing.assert_close(found[0, 0], expected, rtol=1e-9, atol=1e-10)


def test_float16_does_not_overflow() -> None:
    """Sums over 4000 keys, beyond 65504."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (8 + torch.randn(1, 1, 4000, 8, generator=generator) for _ in range(3))
    for name in ("linear_attention", "cosformer"):
        for causal in (False, True):
            forward = CATALOG[name].forward("linear").fn
            found = forward(q.half(), k.half(), v.half(), causal=causal)
            expected = forward(q, k, v, causal=causal)
            torch.testing.assert_close(found.float(), expected, rtol=5e-3, atol=5e-3)


CAUSAL_ONLY = ("retention", "gated_linear", "delta_rule")


@pytest.mark.parametrize("sizes", [(1, 90), (40, 200), (64, 128), (90, 20)])
@pytest.mark.parametrize("name", CAUSAL_ONLY)
def test_fewer_or_more_queries_than_keys(name: str, sizes: tuple[int, int]) -> None:
    """The last queries of a longer sequence, with some keys hidden; the rest see nothing."""
    q_len, k_len = sizes
    longest = max(sizes)
    given = arguments(CATALOG[name], longest)
    shown = torch.rand(2, 1, 1, k_len, generator=torch.Generator().manual_seed(1)) < 0.7
    whole = part(given, longest - k_len, longest, None)
    inputs = dict(whole.given)
    first = {n: t[:, :, -q_len:] for n, t in given.data.items() if n == "q"}
    q, k, v = first["q"], whole.data["k"], whole.data["v"]
    for forward in CATALOG[name].forwards.values():
        found = forward.fn(q, k, v, mask=shown, causal=True, **inputs, **given.fixed)
        if q_len > k_len:
            assert not found[:, :, : q_len - k_len].count_nonzero()
        seen = min(q_len, k_len)
        padded = torch.cat([torch.zeros_like(k[..., : k_len - seen, :]), q[:, :, -seen:]], 2)
        reference = CATALOG[name].forward("reference").fn
        expected = reference(padded, k, v, mask=shown, causal=True, **inputs, **given.fixed)
        torch.testing.assert_close(found[:, :, -seen:], expected[:, :, -seen:])


@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0, 400.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gate_is_too_strong(strength: float, dtype: torch.dtype) -> None:
    """Gates from none to e^-400 at every other step, where factors alone would overflow."""
    variant = CATALOG["gated_linear"]
    given = arguments(variant, 150)
    gates = torch.zeros_like(given.given["log_gate"])
    gates[:, :, ::2] = -strength * torch.rand(
        gates[:, :, ::2].shape, generator=torch.Generator().manual_seed(0)
    ).to(gates)
    results = []
    for name in variant.forwards:
        call = given.replacing({"log_gate": gates}).to(dtype).requiring_grad()
        output = call.call(variant.forward(name).fn)
        results.append((output, *gradients([output], call).values()))
    for expected, found in zip(*results, strict=True):
        assert found.isfinite().all()
        slack = 1e-9 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(found, expected, rtol=slack, atol=slack)


def test_a_gate_of_one_is_linear_attention_without_a_normaliser() -> None:
    given = arguments(CATALOG["gated_linear"], 80)
    q, k, v = given.data.values()
    expected = (q @ k.mT / math.sqrt(8)).tril() @ v
    found = CATALOG["gated_linear"].forward("chunked").fn(q, k, v, log_gate=torch.zeros_like(k))
    torch.testing.assert_close(found, expected)


def test_the_delta_rule_replaces() -> None:
    """With β = 1 and orthogonal keys, reading a key gives the last value written under it."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    order = torch.randint(0, 8, (150,), generator=generator)
    k = (3 * keys[order])[None, None]
    v = torch.randn(1, 1, 150, 5, generator=generator, dtype=torch.float64)
    beta = torch.ones(1, 1, 150).double()
    found = CATALOG["delta_rule"].forward("chunked").fn(k, k, v, beta=beta, scale=1.0)
    torch.testing.assert_close(found, v)
    half = CATALOG["delta_rule"].forward("chunked").fn(k, k, v, beta=beta / 2, scale=1.0)
    assert (half - v).abs().max() > 0.1
