"""Attention to memories, to predicted and to drawn places, and beside a convolution."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import bakeoff
from bakeoff import Catalog, Shape, UnsupportedError

Tensor = torch.Tensor
HEADS, DIM = 3, 6
SIZES = [(7, 7), (5, 9), (9, 5), (1, 8)]


def drawn(q_len: int, k_len: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, HEADS, n, DIM, dtype=torch.float64, generator=generator, requires_grad=True)
        for n in (q_len, k_len, k_len)
    ]


def made(catalog: Catalog, name: str, forward: str, **options: Any) -> Any:
    shape = Shape(2, HEADS, HEADS, 9, 9, DIM, DIM)
    generator = torch.Generator().manual_seed(1)
    return bakeoff.module(
        catalog[name], shape, forward=forward, options=options, generator=generator
    ).double()


def hidden(sizes: tuple[int, int]) -> Tensor:
    """A mask over keys."""
    return torch.rand(2, 1, 1, sizes[1], generator=torch.Generator().manual_seed(2)) < 0.6


def softmax_over(q: Tensor, keys: list[Tensor], values: list[Tensor], scale: float) -> Tensor:
    """The mean of some values, for one query."""
    if not keys:
        return torch.zeros(DIM, dtype=q.dtype)
    weights = torch.stack([q @ key * scale for key in keys]).softmax(0)
    return sum((w * value for w, value in zip(weights, values, strict=True)), torch.zeros_like(q))


def visible(
    mask: Tensor, example: int, sizes: tuple[int, int], row: int, causal: bool
) -> list[int]:
    place = row + sizes[1] - sizes[0]
    return [j for j in range(sizes[1]) if mask[example, 0, 0, j] and (not causal or j <= place)]


# Memories


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_slots_join_the_keys(
    catalog: Catalog, forward: str, sizes: tuple[int, int], causal: bool
) -> None:
    q, k, v = drawn(*sizes)
    module, mask = made(catalog, "persistent_memory", forward, slots=4), hidden(sizes)
    found = module(q, k, v, mask=mask, causal=causal)
    for b, h, i in ((0, 0, 0), (1, 2, sizes[0] - 1)):
        seen = visible(mask, b, sizes, i, causal)
        keys = [*module.slot_keys[h], *k[b, h, seen]]
        values = [*module.slot_values[h], *v[b, h, seen]]
        expected = softmax_over(q[b, h, i], keys, values, 1 / math.sqrt(DIM))
        torch.testing.assert_close(found[b, h, i], expected)


@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_a_query_without_keys_reads_the_slots(catalog: Catalog, forward: str) -> None:
    q, k, v = drawn(5, 9)
    module = made(catalog, "persistent_memory", forward, slots=4)
    mask = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    slots = [t.expand(2, -1, -1, -1) for t in (module.slot_keys, module.slot_values)]
    expected = F.scaled_dot_product_attention(q, *slots)
    torch.testing.assert_close(module(q, k, v, mask=mask), expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_hops_chain(catalog: Catalog, forward: str, sizes: tuple[int, int], causal: bool) -> None:
    """One query at a time through all hops."""
    q, k, v = drawn(*sizes)
    generator = torch.Generator().manual_seed(3)
    memory = torch.randn(2, 2, HEADS, 4, DIM, dtype=torch.float64, generator=generator)
    module, mask = made(catalog, "memory_network", forward, hops=3), hidden(sizes)
    given = {"memory_keys": memory[0], "memory_values": memory[1]}
    found = module(q, k, v, mask=mask, causal=causal, **given)
    for b, h, i in ((0, 0, 0), (1, 2, sizes[0] - 1)):
        seen = visible(mask, b, sizes, i, causal)
        keys, values = [*memory[0, b, h], *k[b, h, seen]], [*memory[1, b, h], *v[b, h, seen]]
        state = q[b, h, i]
        for _ in range(3):
            read = softmax_over(state, keys, values, 1 / math.sqrt(DIM))
            state = module.w_hop @ state + read
        torch.testing.assert_close(found[b, h, i], read)


def test_a_second_hop_finds_what_the_first_one_names(catalog: Catalog) -> None:
    """The query names a key; the value found there is the key of the answer."""
    one = 30 * torch.eye(4)[None, None]
    memory = {"memory_keys": one[:, :, :2], "memory_values": one[:, :, 1:3]}
    q = one[:, :, :1]
    k = v = torch.zeros(1, 1, 1, 4)
    for hops, answer in ((1, 1), (2, 2)):
        module = bakeoff.module(
            catalog["memory_network"], Shape(1, 1, 1, 1, 1, 4, 4), options={"hops": hops}
        )
        torch.nn.init.zeros_(module.get_parameter("w_hop"))
        assert module(q, k, v, **memory).argmax() == answer


def test_hops_need_one_size(catalog: Catalog) -> None:
    module = bakeoff.module(catalog["memory_network"], Shape(1, 1, 1, 2, 2, 4, 3))
    memory = {"memory_keys": torch.ones(1, 1, 2, 4), "memory_values": torch.ones(1, 1, 2, 3)}
    with pytest.raises(UnsupportedError, match="must have one size, and there are 3 and 4"):
        module(*torch.ones(2, 1, 1, 2, 4), torch.ones(1, 1, 2, 3), **memory)


# A predicted place


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [*SIZES, (40, 40)])
@pytest.mark.parametrize("window", [1, 3, 30])
@pytest.mark.parametrize("forward", ["reference", "gathered"])
def test_local_p_in_loops(
    catalog: Catalog, forward: str, window: int, sizes: tuple[int, int], causal: bool
) -> None:
    q, k, v = drawn(*sizes)
    module, mask = made(catalog, "local_predictive", forward, window=window), hidden(sizes)
    found = module(q, k, v, mask=mask, causal=causal)
    for b, h, i in ((0, 0, 0), (1, 2, sizes[0] - 1), (1, 1, sizes[0] // 2)):
        seen = visible(mask, b, sizes, i, causal)
        share = torch.sigmoid(module.v_place @ torch.tanh(module.w_place @ q[b, h, i]))
        away = {j: place - len(seen) * share for place, j in enumerate(seen)}
        near = [j for j in seen if abs(away[j]) <= window]
        gauss = [torch.exp(-(away[j] ** 2) / (2 * (window / 2) ** 2)) for j in near]
        weights = torch.stack([q[b, h, i] @ k[b, h, j] for j in near]).softmax(0) if near else []
        expected = torch.zeros(DIM, dtype=torch.float64)
        for w, g, j in zip(weights, gauss, near, strict=True):
            expected = expected + w * g * v[b, h, j]
        torch.testing.assert_close(found[b, h, i], expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("before", [0, 11])
@pytest.mark.parametrize("forward", ["reference", "gathered"])
def test_local_p_does_not_count_padding(
    catalog: Catalog, forward: str, before: int, causal: bool
) -> None:
    """A padded sequence is the sequence alone, whichever side the padding is on."""
    after = 11 - before
    q, k, v = drawn(29, 29)
    module = made(catalog, "local_predictive", forward, window=4)
    padded = [F.pad(t, (0, 0, before, after), value=3.0) for t in (q, k, v)]
    mask = F.pad(torch.ones(29, dtype=torch.bool), (before, after))
    found = module(*padded, mask=mask[None, None, None], causal=causal)
    expected = module(q, k, v, causal=causal)
    torch.testing.assert_close(found[:, :, before : before + 29], expected)


def test_gathered_blocks(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.plugins.attention import local_predictive

    monkeypatch.setattr(local_predictive, "BLOCK_ELEMENTS", 500)
    leaves = drawn(31, 31)
    for causal in (False, True):
        results = []
        for forward in ("reference", "gathered"):
            module = made(catalog, "local_predictive", forward, window=3)
            output = module(*leaves, causal=causal)
            into = [*leaves, *module.parameters()]
            results.append((output, *torch.autograd.grad(output.square().sum(), into)))
        for expected, found in zip(*results, strict=True):
            torch.testing.assert_close(found, expected)


# A drawn place


@pytest.mark.parametrize("forward", ["reference", "gathered"])
def test_draws_have_the_frequencies_of_the_softmax(catalog: Catalog, forward: str) -> None:
    """20 000 draws from one row: each frequency within five standard errors."""
    count = 20_000
    generator = torch.Generator().manual_seed(4)
    q, k = (
        torch.randn(1, 1, 1, 4, generator=generator),
        torch.randn(1, 1, 5, 4, generator=generator),
    )
    v = torch.eye(5)[None, None]
    module = bakeoff.module(catalog["hard"], Shape(1, 1, 1, count, 5, 4, 5), forward=forward)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = module(q.expand(1, 1, count, 4), k, v)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    expected = (q @ k.mT / 2).softmax(-1).flatten()
    error = (expected * (1 - expected) / count).sqrt()
    assert ((found.mean(2).flatten() - expected).abs() < 5 * error).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("forward", ["reference", "gathered"])
def test_the_likeliest_when_evaluating(
    catalog: Catalog, forward: str, sizes: tuple[int, int], causal: bool
) -> None:
    q, k, v = drawn(*sizes)
    module, mask = made(catalog, "hard", forward).eval(), hidden(sizes)
    found = module(q, k, v, mask=mask, causal=causal)
    for b, h, i in ((0, 0, 0), (1, 2, sizes[0] - 1)):
        seen = visible(mask, b, sizes, i, causal)
        expected = torch.zeros(DIM, dtype=torch.float64)
        if seen:
            expected = v[b, h, max(seen, key=lambda j: float((q[b, h, i] @ k[b, h, j]).detach()))]
        assert torch.equal(found[b, h, i], expected)


@pytest.mark.parametrize("forward", ["reference", "gathered"])
def test_the_gradient_is_straight_through(catalog: Catalog, forward: str) -> None:
    """That of torch's gumbel_softmax(hard=True) with the same noise."""
    q, k, v = drawn(5, 9)
    torch.manual_seed(0)
    noise = {"gumbel": torch.distributions.Gumbel(0.0, 1.0).sample((2, HEADS, 5, 9)).double()}
    found = catalog["hard"].forward(forward).fn(q, k, v, **noise)
    scores = q @ k.mT / math.sqrt(DIM) + noise["gumbel"]
    soft = scores.softmax(-1)
    one_hot = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    expected = (one_hot - soft.detach() + soft) @ v
    torch.testing.assert_close(found, expected)
    weight = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


# Beside a convolution


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kernel", [1, 2, 5, 31])
@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_the_near_half_is_a_convolution(
    catalog: Catalog, forward: str, kernel: int, sizes: tuple[int, int], causal: bool
) -> None:
    q, k, v = drawn(*sizes)
    module, mask = made(catalog, "conv_hybrid", forward, kernel=kernel), hidden(sizes)
    found = module(q, k, v, mask=mask, causal=causal)
    for b, h, i in ((0, 0, 0), (1, 2, sizes[0] - 1)):
        seen = visible(mask, b, sizes, i, causal)
        far = softmax_over(q[b, h, i], [*k[b, h, seen]], [*v[b, h, seen]], 1 / math.sqrt(DIM))
        near = torch.zeros(DIM // 2, dtype=torch.float64)
        for j in seen:
            tap = j - (i + sizes[1] - sizes[0]) + kernel // 2
            if 0 <= tap < kernel:
                near = near + module.weight[h, :, tap] * v[b, h, j, DIM // 2 :]
        torch.testing.assert_close(found[b, h, i], torch.cat([far[: DIM // 2], near]))


@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_the_near_half_is_that_of_torch(catalog: Catalog, forward: str) -> None:
    q, k, v = drawn(9, 9)
    module = made(catalog, "conv_hybrid", forward, kernel=5)
    channels = v[..., DIM // 2 :].mT.flatten(1, 2)
    weight = module.weight.flatten(0, 1)[:, None]
    expected = F.conv1d(channels, weight, padding="same", groups=HEADS * DIM // 2)
    found = module(q, k, v)[..., DIM // 2 :].mT.flatten(1, 2)
    torch.testing.assert_close(found, expected)
