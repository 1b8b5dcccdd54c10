"""Attention of low rank: random features, learned projections, landmarks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import Shape

CATALOG = bakeoff.load(entry_points=False, pyproject=False)

Tensor = torch.Tensor


def drawn(q_len: int, k_len: int, dim: int = 8, seed: int = 0, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (q_len, k_len, k_len)
    return [torch.randn(batch, 2, n, dim, generator=generator, dtype=torch.float64) for n in sizes]


def projection(features: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    declared = CATALOG["performer"].parameters
    shape = Shape(1, 1, 1, 4, 4, dim, dim)
    return declared(shape, generator, features=features)["projection"].double()


def performer(name: str, q: Tensor, k: Tensor, v: Tensor, omega: Tensor, **more: Any) -> Tensor:
    forward = CATALOG["performer"].forward(name).fn
    return forward(q, k, v, projection=omega, features=len(omega), **more)


def test_features_are_orthogonal_within_a_block() -> None:
    omega = projection(20, 8, 0)
    products = omega @ omega.T
    for block in (slice(0, 8), slice(8, 16), slice(16, 20)):
        own = products[block, block]
        torch.testing.assert_close(
            own, torch.diag(own.diagonal()), rtol=0, atol=1e-5 * float(own.max())
        )
    assert products[:8, 8:].abs().max() > 0.1


def kernel_estimates(draws: int, features: int) -> tuple[Tensor, float]:
    """φ(x)·φ(y) of many draws, and the kernel exp(x·y) that it estimates."""
    generator = torch.Generator().manual_seed(1)
    x, y = 0.3 * torch.randn(2, 8, generator=generator, dtype=torch.float64)

    def phi(omega: Tensor, z: Tensor) -> Tensor:
        return torch.exp(omega @ z - z @ z / 2) / math.sqrt(features)

    omegas = [projection(features, 8, seed) for seed in range(draws)]
    return torch.stack([phi(o, x) @ phi(o, y) for o in omegas]), math.exp(float(x @ y))


def test_the_estimate_of_the_kernel_is_unbiased() -> None:
    found, exact = kernel_estimates(draws=1500, features=16)
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - exact) < 4 * error
    assert error < 0.02 * exact  # small enough for a bias to show


def test_the_error_falls_like_the_root_of_the_features() -> None:
    q, k, v = (size * t for size, t in zip((0.4, 0.4, 1.0), drawn(24, 24), strict=True))
    exact = CATALOG["scaled_dot_product"].forward("reference").fn(q, k, v)
    sizes = (32, 128, 512)
    errors = []
    for features in sizes:
        squares = [
            (performer("linear", q, k, v, projection(features, 8, s)) - exact).square().mean()
            for s in range(40)
        ]
        errors.append(math.sqrt(sum(map(float, squares)) / len(squares)))
    slopes = [math.log(b / a) / math.log(4) for a, b in pairwise(errors)]
    assert all(-0.65 < slope < -0.35 for slope in slopes), (errors, slopes)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(9, 9), (70, 70), (200, 200), (5, 150), (150, 5)])
def test_performer_is_the_formula_of_pairs(sizes: tuple[int, int], causal: bool) -> None:
    """Against a logarithm of sums over features for every pair, which needs no constants."""
    q, k, v = drawn(*sizes, batch=1)
    omega = projection(16, 8, 0)
    a, b = (x / 8**0.25 for x in (q, k))
    left = a @ omega.T - a.square().sum(-1, keepdim=True) / 2
    right = b @ omega.T - b.square().sum(-1, keepdim=True) / 2
    scores = (left[:, :, :, None] + right[:, :, None]).logsumexp(-1)  # (B, H, Nq, Nk)
    if causal:
        allowed = bakeoff.allowed_keys(q, k, causal=True)
        scores = scores.masked_fill(~allowed, -torch.inf)
    expected = scores.softmax(-1).nan_to_num(0.0) @ v
    for name in ("reference", "linear"):
        found = performer(name, q, k, v, omega, causal=causal)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_a_later_outlier_does_not_drown_what_was_before(causal: bool) -> None:
    """A key whose weights are e^100 times those of others, in another chunk or example."""
    q, k, v = drawn(200, 200)
    omega = projection(32, 8, 0)
    before = performer("linear", q, k, v, omega, causal=causal)
    loud = k.clone()
    if causal:
        loud[:, :, 150] = 60 * omega[3] / omega[3].norm()
    else:
        loud[1] = 60 * omega[3] / omega[3].norm()
    after = performer("linear", q.float(), loud.float(), v.float(), omega.float(), causal=causal)
    assert after.isfinite().all()
    kept = (slice(None), slice(None), slice(0, 128)) if causal else (slice(0, 1),)
    torch.testing.assert_close(after[kept].double(), before[kept], rtol=1e-4, atol=1e-4)


def test_the_scale_is_that_of_the_softmax() -> None:
    q, k, v = (0.4 * t for t in drawn(16, 16))
    omega = torch.cat([projection(64, 8, s) for s in range(200)])
    softmax = CATALOG["scaled_dot_product"].forward("reference").fn
    flat, sharp = (softmax(q, k, v, scale=scale) for scale in (0.1, 0.7))
    for scale, exact in ((0.1, flat), (0.7, sharp)):
        error = (performer("linear", q, k, v, omega, scale=scale) - exact).norm()
        assert error < 0.2 * (flat - sharp).norm()


def linformer(name: str, q: Tensor, k: Tensor, v: Tensor, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = Shape(1, 1, 1, 4, k.shape[2], 4, 4)
    drawn = CATALOG["linformer"].parameters(shape, generator, rank=5)
    weights = {name: weight.detach().double() for name, weight in drawn.items()}
    return CATALOG["linformer"].forward(name).fn(q, k, v, rank=5, **weights, **more)


@pytest.mark.parametrize("name", ["reference", "sdpa"])
def test_linformer_row_by_row(name: str) -> None:
    """Each projected key and value written out as a sum over positions."""
    q, k, v = drawn(3, 11)
    shown = torch.rand(2, 11, generator=torch.Generator().manual_seed(1)) < 0.6
    generator = torch.Generator().manual_seed(3)
    weights = CATALOG["linformer"].parameters(Shape(1, 1, 1, 4, 11, 4, 4), generator, rank=5)
    e, f = (w.detach().double() for w in weights.values())
    found = linformer(name, q, k, v, mask=shown[:, None, None])
    for b in range(2):
        seen = [j for j in range(11) if shown[b, j]]
        keys = [sum(e[r, j] * k[b, 1, j] for j in seen) for r in range(5)]
        values = [sum(f[r, j] * v[b, 1, j] for j in seen) for r in range(5)]
        scores = torch.stack([q[b, 1, 2] @ key for key in keys]) / math.sqrt(8)
        expected = scores.softmax(0) @ torch.stack(values)
        torch.testing.assert_close(found[b, 1, 2], expected)


def test_linformer_is_for_one_number_of_keys() -> None:
    module = bakeoff.module(CATALOG["linformer"], Shape(1, 2, 2, 7, 7, 8, 8), forward="sdpa")
    q, k, v = (t.float() for t in drawn(9, 7, batch=1))
    assert module(q, k, v).shape == (1, 2, 9, 8)
    with pytest.raises(bakeoff.UnsupportedError, match="does not allow the pattern causal_self"):
        module(k, k, v, causal=True)
    with pytest.raises(RuntimeError, match=r"7.*8|8.*7"):
        module(q[:, :, :7], torch.cat([k, k[:, :, :1]], 2), torch.cat([v, v[:, :, :1]], 2))


def nystromformer(name: str, q: Tensor, k: Tensor, v: Tensor, **more: Any) -> Tensor:
    return CATALOG["nystromformer"].forward(name).fn(q, k, v, **more)


@pytest.mark.parametrize("name", ["reference", "sdpa"])
@pytest.mark.parametrize("sizes", [(12, 12), (13, 17), (23, 9)])
def test_nystromformer_with_many_iterations(name: str, sizes: tuple[int, int]) -> None:
    """Against torch's pseudoinverse, and means of segments written out."""
    q, k, v = (2 * t for t in drawn(*sizes))
    generator = torch.Generator().manual_seed(1)
    shown = torch.rand(2, 1, sizes[1], 1, generator=generator) < 0.7
    shown[:, :, :2] = False  # the first segment, or half of it, has no key

    def means(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        size, longer = divmod(x.shape[2], 4)
        found, any_key, start = [], [], 0
        for segment in range(4):
            end = start + size + (segment < longer)
            count = seen[:, :, start:end].sum(2)
            found.append((x * seen)[:, :, start:end].sum(2) / count.clamp(min=1))
            any_key.append(count > 0)
            start = end
        return torch.stack(found, 2), torch.cat(any_key, -1)[:, :, None]

    def softmax(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        scores = (x @ y.mT / math.sqrt(8)).masked_fill(~seen, -torch.inf)
        return scores.softmax(-1)

    q_means, _ = means(q, torch.ones_like(q[:, :1, :, :1], dtype=torch.bool))
    k_means, some = means(k, shown)
    middle = torch.linalg.pinv(softmax(q_means, k_means, some), rtol=1e-9)
    expected = softmax(q, k_means, some) @ middle @ softmax(q_means, k, shown.mT) @ v
    found = nystromformer(name, q, k, v, landmarks=4, iterations=60, mask=shown.mT)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    few = nystromformer(name, q, k, v, landmarks=4, iterations=1, mask=shown.mT)
    assert (few - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["reference", "sdpa"])
def test_more_landmarks_come_nearer_to_softmax(name: str) -> None:
    """On queries and keys that change slowly, as the paper assumes."""
    q, k, v = (t.cumsum(2) / 4 for t in drawn(64, 64))
    exact = CATALOG["scaled_dot_product"].forward("reference").fn(q, k, v)
    errors = [
        float((nystromformer(name, q, k, v, landmarks=m, iterations=12) - exact).norm())
        for m in (4, 16, 64)
    ]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]
    assert errors[2] < 1e-10
