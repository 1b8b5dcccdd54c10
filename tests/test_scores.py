"""Attention with other scores and weights, against the formulas written out and known values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bakeoff
from bakeoff import Case, Catalog, Shape, UnsupportedError
from bakeoff.plugins.attention._tiles import tiled_attention
from bakeoff.suites.counting import counted
from bakeoff.suites.product import expand
from bakeoff.suites.selection import selection_for
from bakeoff.suites.tensors import arguments_for

Tensor = torch.Tensor
HEADS, DIM = 3, 6
SIZES = [(7, 7), (5, 9), (9, 5), (1, 8)]


def drawn(q_len: int, k_len: int, dim: int = DIM, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, HEADS, n, dim, dtype=torch.float64, generator=generator, requires_grad=True)
        for n in (q_len, k_len, k_len)
    ]


def made(catalog: Catalog, name: str, forward: str, k_len: int = 9, **more: Any) -> Any:
    """A module with parameters that are not at their special first values."""
    shape = Shape(2, HEADS, HEADS, k_len, k_len, DIM, DIM)
    generator = torch.Generator().manual_seed(1)
    module = bakeoff.module(catalog[name], shape, forward=forward, generator=generator, **more)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.double()


def with_inputs(catalog: Catalog, name: str, k_len: int) -> dict[str, Tensor]:
    variant = catalog[name]
    if variant.inputs is None:
        return {}
    shape = Shape(2, HEADS, HEADS, k_len, k_len, DIM, DIM)
    given = variant.inputs(shape, torch.Generator().manual_seed(2), **variant.options)
    return {n: t.double() for n, t in given.items()}


def softmax(scores: list[float]) -> np.ndarray:
    weights = np.exp(np.array(scores) - max(scores))
    return weights / weights.sum()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def rotated(x: np.ndarray, place: int, base: float = 10000.0) -> np.ndarray:
    """As complex numbers."""
    z = x[0::2] + 1j * x[1::2]
    z = z * np.exp(1j * place * base ** (-2 * np.arange(len(z)) / len(x)))
    return np.stack([z.real, z.imag], -1).reshape(-1)


def forgotten(gates: np.ndarray, i: int, j: int) -> float:
    """log f summed one by one over the places between."""
    low, high = min(i, j), max(i, j)
    return sum(gates[m] for m in range(max(0, low + 1), high + 1))


#: (query, key, i, j, head, everything learned or given) -> the score of a pair.
Score = Callable[[np.ndarray, np.ndarray, int, int, int, dict[str, np.ndarray]], float]
ROOT = math.sqrt(DIM)
SCORES: dict[str, Score] = {
    "softcap": lambda a, b, i, j, h, p: 50 * math.tanh(a @ b / ROOT / 50),
    "softmax_off_by_one": lambda a, b, i, j, h, p: a @ b / ROOT,
    "sigmoid_attention": lambda a, b, i, j, h, p: a @ b / ROOT,
    "cosine": lambda a, b, i, j, h, p: cosine(a, b) * math.exp(p["log_scale"][h]),
    "alibi": lambda a, b, i, j, h, p: a @ b / ROOT - 2 ** p["log_slopes"][h] * abs(i - j),
    "rotary": lambda a, b, i, j, h, p: rotated(a, i) @ rotated(b, j) / ROOT,
    "forgetting": lambda a, b, i, j, h, p: (
        a @ b / ROOT + forgotten(p["log_gates"][p["example"], h], i, j)
    ),
}


def weights_of(name: str, scores: list[float], k_len: int) -> np.ndarray:
    if name == "sigmoid_attention":
        return 1 / (1 + np.exp(math.log(k_len) - np.array(scores)))
    if name == "softmax_off_by_one":
        return np.exp(scores) / (1 + np.exp(scores).sum())
    return softmax(scores)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", SCORES)
def test_every_forward_is_the_formula(
    catalog: Catalog, name: str, sizes: tuple[int, int], causal: bool
) -> None:
    """One pair at a time, with a mask that leaves the first query without any key."""
    q, k, v = drawn(*sizes)
    given = with_inputs(catalog, name, sizes[1])
    mask = torch.rand(sizes, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[0] = False
    for forward in catalog[name].forwards:
        module = made(catalog, name, forward)
        p = {n: t.detach().numpy() for n, t in [*module.state_dict().items(), *given.items()]}
        found = module(q, k, v, mask=mask, causal=causal, **given).detach().numpy()
        a, b, c = (t.detach().numpy() for t in (q, k, v))
        expected = np.zeros_like(found)
        for example, head, row in np.ndindex(found.shape[:3]):
            i = row + sizes[1] - sizes[0]
            keys = [j for j in range(sizes[1]) if mask[row, j] and (not causal or j <= i)]
            scores = [
                SCORES[name](
                    a[example, head, row],
                    b[example, head, j],
                    i,
                    j,
                    head,
                    {**p, "example": example},
                )
                for j in keys
            ]
            for w, j in zip(weights_of(name, scores, sizes[1]) if keys else [], keys, strict=True):
                expected[example, head, row] += w * c[example, head, j]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_talking_heads_in_loops(catalog: Catalog, forward: str) -> None:
    q, k, v = drawn(5, 9)
    module = made(catalog, "talking_heads", forward)
    before, after = module.mix_scores.detach(), module.mix_weights.detach()
    weights = [
        sum(q[:, h] @ k[:, h].mT * before[h, g] for h in range(HEADS)).div(ROOT).softmax(-1)
        for g in range(HEADS)
    ]
    expected = [sum(weights[g] * after[g, o] for g in range(HEADS)) @ v[:, o] for o in range(HEADS)]
    torch.testing.assert_close(module(q, k, v), torch.stack(expected, 1))


@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_heads_do_not_tell_what_a_mask_hides(catalog: Catalog, forward: str) -> None:
    """A key that one head may not see does not reach it through another head's weights."""
    q, k, v = drawn(5, 9)
    mask = torch.ones(1, HEADS, 5, 9, dtype=torch.bool)
    mask[:, 0, :, 3] = False
    module = made(catalog, "talking_heads", forward)
    (into_v,) = torch.autograd.grad(module(q, k, v, mask=mask)[:, 0].sum(), v)
    assert not into_v[:, 0, 3].any()
    assert into_v[:, 0, 2].all()


@pytest.mark.parametrize("layer", [0, 5])
@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_differential_in_parts(catalog: Catalog, forward: str, layer: int) -> None:
    q, k, v = drawn(7, 7)
    module = made(catalog, "differential", forward)
    first, second = (
        F.scaled_dot_product_attention(q[..., part], k[..., part], v)
        for part in (slice(0, 3), slice(3, 6))
    )
    start = {0: 0.2, 5: 0.8 - 0.6 * math.exp(-1.5)}[layer]
    dots = [
        (getattr(module, f"lambda_q{n}") @ getattr(module, f"lambda_k{n}")).exp() for n in (1, 2)
    ]
    norm = nn.RMSNorm(DIM, eps=1e-5).double()
    norm.weight.data.copy_(module.gain)
    expected = (1 - start) * norm(first - (dots[0] - dots[1] + start) * second)
    torch.testing.assert_close(module(q, k, v, layer=layer), expected)


def test_differential_splits_a_head(catalog: Catalog) -> None:
    shape = Shape(1, 1, 1, 4, 4, 5, 5)
    module = bakeoff.module(catalog["differential"], shape)
    with pytest.raises(UnsupportedError, match="split into two queries, and 5 is odd"):
        module(*torch.randn(3, 1, 1, 4, 5))


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [2.0**-n for n in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_slopes_of_alibi(catalog: Catalog, heads: int, slopes: list[float]) -> None:
    shape = Shape(1, heads, heads, 4, 4, 8, 8)
    found = bakeoff.module(catalog["alibi"], shape).get_buffer("log_slopes")
    torch.testing.assert_close(found.exp2(), torch.tensor(slopes))


@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_rotary_sees_distances_alone(catalog: Catalog, forward: str) -> None:
    """Hidden positions before the first move all others, and change nothing."""
    q, k, v = drawn(7, 7)
    module = made(catalog, "rotary", forward)
    longer = [F.pad(t, (0, 0, 5, 0), value=1.0) for t in (q, k, v)]
    mask = torch.arange(12) >= 5
    found = module(*longer, mask=mask[None, None, None])[:, :, 5:]
    torch.testing.assert_close(found, module(q, k, v))
    # An order that is changed is seen.
    assert not torch.allclose(module(q, k.flip(2), v.flip(2)), module(q, k, v))


@pytest.mark.parametrize("forward", ["reference", "sdpa"])
def test_rotary_far_out(catalog: Catalog, forward: str) -> None:
    """In float32 at place 100 000 still what it is in float64: angles are not rounded first."""
    k_len = 100_000
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, 8, generator=generator) for n in (2, k_len, k_len))
    q = q * 10
    module = bakeoff.module(catalog["rotary"], Shape(1, 1, 1, 2, k_len, 8, 8), forward=forward)
    exact = module(q.double(), k.double(), v.double())
    torch.testing.assert_close(module(q, k, v).double(), exact, rtol=1e-4, atol=1e-5)


def test_the_temperature_of_cosine_is_clamped(catalog: Catalog) -> None:
    q, k, v = drawn(7, 7)
    for forward in catalog["cosine"].forwards:
        module = made(catalog, "cosine", forward)
        outputs = []
        for value in (math.log(100), 7.0):
            nn.init.constant_(module.log_scale, value)
            outputs.append(module(q, k, v))
        torch.testing.assert_close(*outputs)
        nn.init.constant_(module.log_scale, 2.0)
        assert not torch.allclose(module(q, k, v), outputs[0])
        torch.testing.assert_close(module(3 * q, 0.1 * k, v), module(q, k, v))


def test_attending_to_nothing(catalog: Catalog) -> None:
    """Scores far below zero: a head says nothing; far above: it is a softmax."""
    q, k, v = drawn(4, 9)
    ones = torch.ones_like(q), torch.ones_like(k)
    for forward in catalog["softmax_off_by_one"].forwards:
        module = made(catalog, "softmax_off_by_one", forward)
        assert module(-40 * ones[0], ones[1], v).abs().max() < 1e-30
        mean = v.mean(2, keepdim=True).expand(-1, -1, 4, -1)
        torch.testing.assert_close(module(40 * ones[0], ones[1], v), mean)
        half = 9 / (1 + 9) * mean
        torch.testing.assert_close(module(0 * ones[0], ones[1], v), half)


# Tiles


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (33, 70), (70, 33), (64, 64), (97, 97)])
@pytest.mark.parametrize("masked", ["", "keys", "full"])
def test_many_tiles(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], causal: bool, masked: str
) -> None:
    """Tiles of 32 × 16: every edge within and between them, in outputs and gradients."""
    from bakeoff.plugins.attention import _tiles

    monkeypatch.setattr(_tiles, "TILE_ELEMENTS", 1)
    monkeypatch.setattr(_tiles, "KEYS", 16)
    q, k, v = drawn(*sizes)
    shapes = {"keys": (2, 1, 1, sizes[1]), "full": (2, HEADS, *sizes)}
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(shapes[masked], generator=generator) < 0.4 if masked else None
    found = tiled_attention(q, k, v, mask, causal, 0.7)
    allowed = bakeoff.allowed_keys(q, k, mask, causal)
    expected = bakeoff.masked_softmax(q @ k.mT * 0.7, allowed) @ v
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weight = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["softcap", "forgetting", "sigmoid_attention"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(33, 70), (70, 33), (64, 64)])
def test_many_tiles_of_a_variant(
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sizes: tuple[int, int],
    causal: bool,
) -> None:
    from bakeoff.plugins.attention import _tiles

    monkeypatch.setattr(_tiles, "TILE_ELEMENTS", 1)
    monkeypatch.setattr(_tiles, "KEYS", 16)
    leaves = drawn(*sizes)
    given = {n: t.requires_grad_() for n, t in with_inputs(catalog, name, sizes[1]).items()}
    options = {"options": {"cap": 1.5}} if name == "softcap" else {}
    results = []
    for forward in ("reference", "tiled"):
        module = made(catalog, name, forward, **options)
        output = module(*leaves, causal=causal, **given)
        weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
        gradients = torch.autograd.grad((output * weight).sum(), [*leaves, *given.values()])
        results.append((output, *gradients))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "label",
    [
        "scaled_dot_product:tiled",
        "softcap:tiled",
        "sigmoid_attention:tiled",
        "forgetting:tiled",
        "talking_heads:blocked",
        "alibi:toeplitz",
        "hard:gathered",
        "local_predictive:gathered",
    ],
)
@pytest.mark.parametrize("pattern", ["self", "causal_self"])
def test_no_square_is_held(catalog: Catalog, label: str, pattern: str) -> None:
    """At N = 2048 less than one number for each pair is held, forward and backward together."""
    name, forward = label.split(":")
    given = {
        "variants": (name,),
        "forwards": (forward,),
        "patterns": (pattern,),
        "seq_lens": (2048,),
        "directions": ("training",),
        "heads": (1,),
        "head_dims": (32,),
    }
    (cell,) = expand("memory", 1, catalog, selection_for("quick", "memory", given))
    held = counted(catalog[name], forward, cell.case).peak_bytes
    reference = counted(catalog[name], "reference", cell.case).peak_bytes
    scores = 4 * 2048 * 2048
    assert reference > 2 * scores
    assert held < scores, held / scores


@pytest.mark.parametrize("kind", ["keys", "full"])
def test_alibi_with_masks_in_blocks(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from bakeoff.plugins.attention import _blocks

    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", 1)
    for causal in (False, True):
        for sizes in ((70, 70), (40, 90), (90, 40)):
            leaves = drawn(*sizes)
            shape = {"keys": (2, 1, 1, sizes[1]), "full": (2, HEADS, *sizes)}[kind]
            mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
            results = []
            for forward in ("reference", "toeplitz"):
                output = made(catalog, "alibi", forward)(*leaves, mask=mask, causal=causal)
                results.append((output, *torch.autograd.grad(output.square().sum(), leaves)))
            for expected, found in zip(*results, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_products_that_are_added_in_place_are_counted(catalog: Catalog) -> None:
    variant = catalog["scaled_dot_product"]
    case = Case(kind="attention", shape=Shape(1, 2, 2, 64, 64, 16, 16), pattern="self")
    declared = variant.forward("tiled").flops
    assert declared is not None
    assert counted(variant, "tiled", case).flops == declared(case)


@pytest.mark.parametrize(("dim", "value_dim"), [(16, 32), (32, 16)])
@pytest.mark.parametrize("name", ["scaled_dot_product", "multi_query", "softmax_off_by_one"])
def test_values_of_another_size_hold_no_square(
    catalog: Catalog, name: str, dim: int, value_dim: int
) -> None:
    """torch's own function makes all scores where keys and values differ in size."""
    variant, n = catalog[name], 1024
    shape = Shape(1, 2, 1 if name == "multi_query" else 2, n, n, dim, value_dim)
    case = Case(kind="attention", shape=shape, pattern="causal_self", direction="training")
    assert counted(variant, "sdpa", case).peak_bytes < 2 * 4 * n * n
    arguments = arguments_for(variant, replace(case, direction="forward")).to(torch.float64)
    found, expected = (arguments.call(variant.forward(f).fn) for f in ("sdpa", "reference"))
    torch.testing.assert_close(found, expected)
