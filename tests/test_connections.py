"""Skip connections against their formulas, and what depends on layer, depth and history."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import bakeoff
from bakeoff.registry.variants import Variant

CATALOG = bakeoff.load(entry_points=False, pyproject=False)

Tensor = torch.Tensor


def rows() -> tuple[Tensor, nn.Linear]:
    torch.manual_seed(0)
    return torch.randn(2, 5, 8, dtype=torch.float64), nn.Linear(8, 8, dtype=torch.float64)


def made(name: str, forward: str = "reference", **options: Any) -> nn.Module:
    """With parameters that are not at their initial values."""
    module = bakeoff.module(CATALOG[name], 8, forward=forward, options=options).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def each(name: str) -> Any:
    return pytest.mark.parametrize("forward", CATALOG[name].forwards)


@each("post_norm")
def test_post_norm(forward: str) -> None:
    x, branch = rows()
    module = made("post_norm", forward)
    norm = nn.LayerNorm(8, dtype=torch.float64)
    norm.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x, branch), norm(x + branch(x)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("depth", "alpha"), [(1, 1.0), (16, 2.0), (81, 3.0)])
@each("deepnorm")
def test_deepnorm_enlarges_the_skip_with_depth(forward: str, depth: int, alpha: float) -> None:
    x, branch = rows()
    module = made("deepnorm", forward)
    norm = nn.LayerNorm(8, dtype=torch.float64)
    norm.load_state_dict(module.state_dict())
    expected = norm(alpha * x + branch(x))
    torch.testing.assert_close(module(x, branch, depth=depth), expected, rtol=1e-9, atol=1e-10)


@each("rezero")
def test_rezero(forward: str) -> None:
    x, branch = rows()
    module = made("rezero", forward)
    expected = x + module.alpha.item() * branch(x)
    torch.testing.assert_close(module(x, branch), expected)
    fresh = bakeoff.module(CATALOG["rezero"], 8, forward=forward).double()
    assert torch.equal(fresh(x, branch), x)


@each("layer_scale")
def test_layer_scale(forward: str) -> None:
    x, branch = rows()
    module = made("layer_scale", forward)
    expected = x + branch(x) @ torch.diag(module.gamma)
    torch.testing.assert_close(module(x, branch), expected)
    fresh = bakeoff.module(CATALOG["layer_scale"], 8, options={"initial": 0.25}).double()
    torch.testing.assert_close(fresh(x, branch), x + branch(x) / 4)


@each("highway")
def test_highway(forward: str) -> None:
    x, branch = rows()
    module = made("highway", forward)
    gate = 1 / (1 + torch.exp(-(x @ module.w_gate.T + module.b_gate)))
    expected = gate * branch(x) + (1 - gate) * x
    torch.testing.assert_close(module(x, branch), expected, rtol=1e-9, atol=1e-10)
    closed = bakeoff.module(CATALOG["highway"], 8, forward=forward, options={"gate_bias": -90.0})
    torch.testing.assert_close(closed.double()(x, branch), x)


@each("dense")
def test_dense_weighs_all_outputs(forward: str) -> None:
    x, branch = rows()
    history = [x + 1, x.sin(), x.square()]
    module = made("dense", forward, layers=5)
    a = module.weights
    expected = a[5] * (x + branch(x)) + a[4] * history[2] + a[3] * history[1] + a[2] * history[0]
    torch.testing.assert_close(module(x, branch, history=history), expected)
    torch.testing.assert_close(module(x, branch), a[5] * (x + branch(x)))
    fresh = bakeoff.module(CATALOG["dense"], 8, forward=forward).double()
    torch.testing.assert_close(fresh(x, branch, history=history), x + branch(x))
    with pytest.raises(ValueError, match="6 earlier outputs, expected at most layers=5"):
        module(x, branch, history=history * 2)


def test_gradients_reach_every_earlier_output() -> None:
    x, branch = rows()
    history = [t.requires_grad_() for t in (x + 1, x.sin())]
    for forward in CATALOG["dense"].forwards:
        module = made("dense", forward, layers=5)
        found = torch.autograd.grad(module(x, branch, history=history).sum(), history)
        for gradient, weight in zip(found, module.weights[3:5], strict=True):
            torch.testing.assert_close(gradient, torch.ones_like(x) * weight)


def call(variant: Variant, forward: str, **given: Any) -> Tensor:
    x, branch = rows()
    return variant.forward(forward).fn(x, branch, survival=0.5, **given)


@each("stochastic_depth")
def test_survival_falls_linearly(forward: str) -> None:
    """Layer by layer of four: 0.875, 0.75, 0.625, 0.5."""
    variant = CATALOG["stochastic_depth"]
    x, branch = rows()
    for layer, survival in enumerate((0.875, 0.75, 0.625, 0.5)):
        place = {"layer": layer, "depth": 4}
        mean = call(variant, forward, draw=None, **place)
        torch.testing.assert_close(mean, x + survival * branch(x))
        kept = call(variant, forward, draw=torch.tensor([survival - 1e-3]), **place)
        torch.testing.assert_close(kept, x + branch(x))
        dropped = call(variant, forward, draw=torch.tensor([survival + 1e-3]), **place)
        assert torch.equal(dropped, x)


def test_layers_are_dropped_as_often_as_they_should() -> None:
    x, branch = rows()
    module = bakeoff.module(CATALOG["stochastic_depth"], 8, options={"survival": 0.3}).double()
    torch.manual_seed(0)
    calls = 2000
    kept = sum(not torch.equal(module(x, branch), x) for _ in range(calls))
    assert abs(kept / calls - 0.3) < 4 * math.sqrt(0.3 * 0.7 / calls)
    module.eval()
    torch.testing.assert_close(module(x, branch), x + 0.3 * branch(x))
