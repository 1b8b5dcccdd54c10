"""Activations: declared properties against measured ones, and known values by quadrature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import bakeoff
from bakeoff import Activation

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
ACTIVATIONS = [v for v in CATALOG.select(kind="activation") if isinstance(v, Activation)]
FEATURES = 24
EPS = torch.finfo(torch.float64).eps
#: Where some activation has a kink: between them all are smooth, as quadrature wants it.
KINKS = (-3.0, -1.0, 0.0, 1.0, 3.0, 6.0)
#: Steps of 1e-3.
GRID = torch.arange(-20_000, 20_001, dtype=torch.float64) / 1000


def over_declared(name: str) -> pytest.MarkDecorator:
    """One case for each activation that declares the property."""
    chosen = [v for v in ACTIVATIONS if v.declared(name) is not None]
    return pytest.mark.parametrize("variant", chosen, ids=[v.name for v in chosen])


def applied(name: str, x: torch.Tensor) -> torch.Tensor:
    """The reference of ``name``, with the default options and parameters."""
    module = bakeoff.module(CATALOG[name], x.shape[-1]).to(x.dtype).requires_grad_(False)
    result: torch.Tensor = module(x)
    return result


def curve(name: str, x: torch.Tensor) -> torch.Tensor:
    """φ at the points of a one-dimensional ``x``."""
    return applied(name, x[:, None])[:, 0]


def expectation(name: str, of: Callable[[torch.Tensor], torch.Tensor] = lambda y: y) -> float:
    """E[f(φ(z))] for z ~ N(0, 1), by Gauss-Legendre quadrature between the kinks."""

    def weighted(z: np.ndarray) -> np.ndarray:
        return of(curve(name, torch.from_numpy(z))).numpy() * stats.norm.pdf(z)

    pieces = itertools.pairwise((-12.0, *KINKS, 12.0))
    return sum(float(integrate.fixed_quad(weighted, a, b, n=80)[0]) for a, b in pieces)


def slope_jumps(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether the slope changes from one step to the next by more than a smooth curve's.

    No second derivative here exceeds 2, so steps of 1e-3 change the slope of a smooth curve by
    2e-3. A kink shares its jump between two steps: one of 0.02 is seen wherever it lies.
    """
    return bool(((y.diff() / x.diff()).diff().abs() >= 0.0099).any())


@pytest.mark.parametrize(
    "variant", [v for v in ACTIVATIONS if "peer" not in v.metadata.tags], ids=lambda v: v.name
)
def test_declares_what_can_be_measured(variant: Activation) -> None:
    row = {"elementwise", "range"}
    every = row | {"smooth", "monotonic", "zero_centred"}
    assert set(variant.metadata.properties) == (every if variant.declared("elementwise") else row)


@over_declared("elementwise")
def test_elementwise(variant: Activation) -> None:
    x = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = applied(variant.name, x)
    x[:, 0] += 1.5
    after = applied(variant.name, x)
    alone = before.shape == x.shape and torch.equal(before[:, 1:], after[:, 1:])
    assert alone is variant.declared("elementwise")


@over_declared("range")
def test_range(variant: Activation) -> None:
    if variant.declared("elementwise"):
        far = torch.logspace(1, 7, 100, dtype=torch.float64)
        y = curve(variant.name, torch.cat([GRID, far, -far]))
    else:
        sizes = torch.logspace(-1, 6, 50, dtype=torch.float64)[:, None, None]
        rows = torch.randn(20, FEATURES, generator=torch.Generator().manual_seed(0))
        y = applied(variant.name, sizes * rows)
    found = (float(y.min()), float(y.max()))
    for bound, extreme, outward in zip(variant.declared("range"), found, (-1, 1), strict=True):
        if math.isinf(bound):
            assert outward * extreme > 1e3
        else:
            assert outward * (extreme - bound) <= 4 * EPS
            assert extreme == pytest.approx(bound, abs=1e-5)


@over_declared("monotonic")
def test_monotonic(variant: Activation) -> None:
    steps = curve(variant.name, GRID).diff()
    assert bool((steps >= -64 * EPS).all()) is variant.declared("monotonic")


@over_declared("smooth")
def test_smooth(variant: Activation) -> None:
    assert slope_jumps(GRID, curve(variant.name, GRID)) is not variant.declared("smooth")


def test_kink_is_seen_wherever_it_lies() -> None:
    assert not slope_jumps(GRID, GRID.square())
    for place in (0.0, 0.12345, -3.0005):
        kink = curve("relu", GRID - place)
        assert slope_jumps(GRID, kink)
        assert slope_jumps(GRID, 0.02 * kink + GRID)


@over_declared("zero_centred")
def test_zero_centred(variant: Activation) -> None:
    assert (abs(expectation(variant.name)) < 1e-9) is variant.declared("zero_centred")


#: E[φ²] and 1/std for z ~ N(0, 1), sup φ', inf φ.
KNOWN = {
    "relu": (0.5, 1.712859, 1.0, 0.0),
    "tanh": (0.394294, 1.592537, 1.0, -1.0),
    "gelu": (0.425221, 1.700926, 1.128904, -0.169971),
    "silu": (0.355776, 1.787187, 1.099839, -0.278465),
    "selu": (1.0, 1.0, 1.758099, -1.758099),
    "sigmoid": (0.293379, 4.801313, 0.25, 0.0),
}


def with_slopes(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points, φ and φ', in steps of 1e-4."""
    x = torch.arange(-400_000, 60_001, dtype=torch.float64) / 10_000
    x.requires_grad_()
    y = curve(name, x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return x.detach(), y.detach(), slope


@pytest.mark.parametrize("name", KNOWN)
def test_known_values(name: str) -> None:
    second = expectation(name, torch.square)
    spread = math.sqrt(second - expectation(name) ** 2)
    _, y, slope = with_slopes(name)
    found = (second, 1 / spread, float(slope.max()), float(y.min()))
    assert found == pytest.approx(KNOWN[name], rel=0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "steepest", "lowest"),
    [("gelu", math.sqrt(2), -0.7518), ("silu", 2.3994, -1.2785)],
)
def test_known_places(name: str, steepest: float, lowest: float) -> None:
    x, y, slope = with_slopes(name)
    found = (float(x[slope.argmax()]), float(x[y.argmin()]))
    assert found == pytest.approx((steepest, lowest), abs=1.5e-4)


def test_tanh_gelu_is_as_far_from_gelu_as_known() -> None:
    x = torch.arange(-60_000, 60_001, dtype=torch.float64) / 10_000
    gap = (curve("gelu_tanh", x) - curve("gelu", x)).abs()
    assert float(gap.max()) == pytest.approx(4.732e-4, abs=5e-8)
    assert float(x[gap.argmax()].abs()) == pytest.approx(2.699, abs=5e-4)
