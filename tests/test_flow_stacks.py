"""Stacks at initialisation against mean-field theory and published measurements."""

from __future__ import annotations

import math

import pytest
import torch

from bakeoff import Activation, Attention, Catalog, Connection, Shape
from bakeoff.suites.flow.initialisation import HE, Initialisation, initialisation_for
from bakeoff.suites.flow.measures import (
    attention_entropy,
    dead_fraction,
    grad_norm_exponent,
    grad_norm_ratio,
    jacobian,
    rank_residual,
    saturated_fraction,
    spectrum,
)
from bakeoff.suites.flow.quadrature import curve_of
from bakeoff.suites.flow.samples import geometric_mean, mean
from bakeoff.suites.flow.stacks import (
    ActivationStack,
    AttentionStack,
    ConnectionStack,
    attention_weights,
    gradient_norms,
)
from bakeoff.suites.flow.theory import chi, variance_map
from bakeoff.suites.flow.training import trained
from bakeoff.suites.statistics import Estimate

FLOAT = torch.float64


def normal(seed: int, *sizes: int) -> torch.Tensor:
    """Data, from another stream than weights of the same seed: they would be equal numbers."""
    generator = torch.Generator().manual_seed(2**31 + seed)
    return torch.randn(*sizes, generator=generator, dtype=FLOAT)


def activation(catalog: Catalog, name: str) -> Activation:
    variant = catalog[name]
    assert isinstance(variant, Activation)
    return variant


def stack_of(
    catalog: Catalog, name: str, depth: int, width: int, seed: int, given: Initialisation
) -> ActivationStack:
    generator = torch.Generator().manual_seed(seed)
    return ActivationStack(activation(catalog, name), depth, width, given, generator)


def holds(found: Estimate, value: float) -> bool:
    return found.low <= value <= found.high


# Variances and gradients, against the maps of mean-field theory.


def last_variances(catalog: Catalog, name: str, given: Initialisation, draws: int) -> Estimate:
    """The second moment of the last pre-activations of 6 layers of width 300, relative to q*."""
    found = []
    for seed in range(draws):
        stack = stack_of(catalog, name, 6, 300, seed, given)
        last = stack.states(normal(seed, 30, 300)).pre_activations[-1].detach()
        found.append(float(last.square().mean()))
    return mean(found)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "elu"])
def test_the_variance_follows_its_map(catalog: Catalog, name: str) -> None:
    given = initialisation_for("critical", activation(catalog, name))
    curve, q = curve_of(catalog[name]), given.weight_variance + given.bias_variance
    for _ in range(5):
        q = variance_map(curve, q, given.weight_variance, given.bias_variance)
    found = last_variances(catalog, name, given, draws=10)
    assert holds(found, q), (found, q)
    assert found.high - found.low < 0.4 * q  # or else it would say nothing
    # Negative control: weights of a variance that is off by a quarter.
    wrong = Initialisation("wrong", 1.25 * given.weight_variance, given.bias_variance)
    assert not holds(last_variances(catalog, name, wrong, draws=10), q)


def test_the_variance_lands_on_the_fixed_point(catalog: Catalog) -> None:
    given = Initialisation("ordered", 1.5, 0.05)
    found = []
    for seed in range(10):
        stack = stack_of(catalog, "tanh", 25, 200, seed, given)
        last = stack.states(normal(seed, 10, 200)).pre_activations[-1].detach()
        found.append(float(last.square().mean()))
    assert holds(mean(found), 0.418), mean(found)
    assert not holds(mean(found), 0.57)  # that of the edge of chaos


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("weight", [1.2, 2.0])
def test_chi_is_the_growth_of_gradients(catalog: Catalog, name: str, weight: float) -> None:
    given, depth = Initialisation("", weight, 0.05), 8
    curve, q, expected = curve_of(catalog[name]), weight + 0.05, 0.0
    for _ in range(depth - 1):
        expected += math.log(chi(curve, q, weight)) / (depth - 1)
        q = variance_map(curve, q, weight, 0.05)
    found = []
    for seed in range(10):
        stack = stack_of(catalog, name, depth, 300, seed, given)
        norms = gradient_norms(stack.states(normal(seed, 20, 300)), normal(seed + 99, 20, 300))
        found.append(math.exp(2 * grad_norm_exponent(norms)))
    estimate = geometric_mean(found)
    assert holds(estimate, math.exp(expected)), (estimate, math.exp(expected))
    assert estimate.high / estimate.low < 1.1


def test_a_linear_stack_does_as_its_weights_say(catalog: Catalog) -> None:
    for scale in (0.9, 1.0, 1.1):
        given = Initialisation("", scale**2, orthogonal=True)
        stack = stack_of(catalog, "identity", 9, 16, 0, given)
        norms = gradient_norms(stack.states(normal(1, 4, 16)), normal(2, 4, 16))
        assert grad_norm_ratio(norms) == pytest.approx(scale**8)
        assert grad_norm_exponent(norms) == pytest.approx(math.log(scale))
        found = spectrum(jacobian(stack, normal(3, 16)))
        assert found.largest == pytest.approx(scale**18)
        assert found.smallest == pytest.approx(scale**18)


# The spectrum of the Jacobian.


@pytest.mark.parametrize(
    ("name", "orthogonal", "variance"),
    [("identity", False, 4), ("identity", True, 0), ("relu", False, 8), ("relu", True, 4)],
)
def test_jacobian_spectra(catalog: Catalog, name: str, orthogonal: bool, variance: float) -> None:
    """Pennington, Schoenholz and Ganguli (2017): L, 0, 2L and L for L layers; here 4 of width 400.

    One unit more or less that is off in a layer of ReLUs scales the whole spectrum, so that the
    variance is taken of eigenvalues whose mean is 1, as in theory.
    """
    given = Initialisation("", 2.0 if name == "relu" else 1.0, orthogonal=orthogonal)
    found = []
    for seed in range(8):
        stack = stack_of(catalog, name, 4, 400, seed, given)
        values = spectrum(jacobian(stack, normal(seed, 400)))
        found.append(values.variance / values.mean**2)
    estimate = mean(found)
    if variance == 0:
        assert estimate.value == pytest.approx(0, abs=1e-9)
        return
    # Corrections of the order L² / N: 4% of the variance, of which the theory knows nothing.
    bias = 4 * 4 / 400 * variance
    assert estimate.low - bias <= variance <= estimate.high + bias, estimate
    assert estimate.high - estimate.low < 0.25 * variance


def test_a_jacobian_is_the_derivative() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Tanh()).double()
    x = normal(0, 5)
    expected = torch.autograd.functional.jacobian(layer, x)
    assert torch.allclose(jacobian(layer, x), expected)


# Units that are dead or saturated.


def test_planted_dead_units_are_counted(catalog: Catalog) -> None:
    stack = stack_of(catalog, "relu", 3, 32, 0, Initialisation("", 2.0, 1e-6))
    x = normal(0, 500, 32)
    before = dead_fraction(stack.states(x).outputs)
    assert before == 0
    with torch.no_grad():
        stack.layers[0].bias[:4] = -1e6  # 4 of 96
    assert dead_fraction(stack.states(x).outputs) == pytest.approx(4 / 96)


def test_dead_units_stay_dead(catalog: Catalog) -> None:
    stack = stack_of(catalog, "relu", 2, 16, 0, Initialisation("", 2.0, 1e-6))
    with torch.no_grad():
        stack.layers[0].bias[:4] = -1e6
    x = normal(0, 100, 16)
    outputs = trained(stack, x, normal(1, 100, 16), steps=5).states(x).outputs
    assert (outputs[0] == 0).all(0)[:4].all()


def test_training_kills_at_a_high_rate(catalog: Catalog) -> None:
    x, target = normal(0, 50, 32), normal(1, 50, 32)
    found = {}
    for rate in (1e-3, 10.0):
        stack = stack_of(catalog, "relu", 3, 32, 0, HE)
        found[rate] = dead_fraction(trained(stack, x, target, 20, rate).states(x).outputs)
    assert found[10.0] > found[1e-3] + 0.1


def test_saturation(catalog: Catalog) -> None:
    curve = curve_of(catalog["tanh"])
    edge = math.atanh(math.sqrt(0.95))  # where 1 − tanh² = 0.05
    h = torch.linspace(-2 * edge, 2 * edge, 10_001, dtype=FLOAT)
    assert saturated_fraction([h], curve) == pytest.approx(0.5, abs=1e-3)
    assert saturated_fraction([h / 2.1], curve) == 0
    assert saturated_fraction([h], curve_of(catalog["relu"])) == pytest.approx(0.5, abs=1e-3)
    assert saturated_fraction([h], curve_of(catalog["leaky_relu"]), 0.005) == 0


# Attention: rank collapse and entropy.


def residuals(catalog: Catalog, depth: int, seed: int, *, skip: bool) -> list[float]:
    """n = d = 64 with 4 heads, weights N(0, 1/d)."""
    variant = catalog["scaled_dot_product"]
    assert isinstance(variant, Attention)
    shape = Shape(1, 4, 4, 64, 64, 16, 16)
    generator = torch.Generator().manual_seed(seed)
    stack = AttentionStack(variant, depth, shape, generator, skip=skip)
    x = normal(seed, 1, 64, 64)
    return [rank_residual(y) for y in (x, *stack.states(x).outputs)]


def test_attention_alone_loses_rank_doubly_exponentially(catalog: Catalog) -> None:
    """Dong et al. (2021), theorem 2.2: the logarithm triples from layer to layer."""
    draws = [residuals(catalog, 4, seed, skip=False) for seed in range(5)]
    typical = [geometric_mean(layer) for layer in zip(*draws, strict=True)]
    for estimate, seen in zip(typical, (0.99, 0.87, 2.2e-2, 4.8e-8), strict=False):
        # One draw was seen; by layer 3 draws differ by factors, in a cube of a cube.
        assert abs(math.log(estimate.value / seen)) < max(0.05, -0.2 * math.log(seen)), typical
    assert typical[4].value < 1e-15  # rounding
    logs = [math.log(estimate.value) for estimate in typical[1:4]]
    assert logs[2] / logs[1] > 3


def test_skips_keep_rank(catalog: Catalog) -> None:
    draws = [residuals(catalog, 12, seed, skip=True)[-1] for seed in range(8)]
    assert holds(geometric_mean(draws), 0.24), geometric_mean(draws)


def test_the_weights_of_attention(catalog: Catalog) -> None:
    variant = catalog["scaled_dot_product"]
    assert isinstance(variant, Attention)
    shape = Shape(2, 2, 2, 8, 8, 4, 4)
    stack = AttentionStack(variant, 1, shape, torch.Generator().manual_seed(0), causal=True)
    layer, x = stack.layer(0), normal(0, 2, 8, 8)
    weights = attention_weights(layer, x)
    q, k, v = layer.queries_keys_values(x)
    assert torch.allclose(weights @ v, layer.attend(q, k, v))
    assert torch.equal(weights, weights.tril())
    uniform = torch.ones(8, 8, dtype=FLOAT).tril()
    uniform /= uniform.sum(-1, keepdim=True)
    expected = sum(math.log(i) for i in range(1, 9)) / 8
    assert attention_entropy(uniform) == pytest.approx(expected)
    assert attention_entropy(weights) < expected
    assert attention_entropy(torch.eye(8)) == 0


# Connections.


def ratio(catalog: Catalog, name: str, depth: int) -> float:
    variant = catalog[name]
    assert isinstance(variant, Connection)
    stack = ConnectionStack(variant, depth, 64, torch.Generator().manual_seed(0))
    return grad_norm_ratio(gradient_norms(stack.states(normal(0, 32, 64)), normal(1, 32, 64)))


def test_connections_differ_as_they_should(catalog: Catalog) -> None:
    assert ratio(catalog, "rezero", 16) == pytest.approx(1)  # begins as the identity
    assert ratio(catalog, "residual", 16) > 10  # each layer adds: about √2 a layer
    assert ratio(catalog, "post_norm", 16) < ratio(catalog, "pre_norm", 16)


def test_earlier_outputs_are_handed_on(catalog: Catalog) -> None:
    variant = catalog["dense"]
    assert isinstance(variant, Connection)
    stack = ConnectionStack(variant, 5, 8, torch.Generator().manual_seed(0))
    x = normal(0, 3, 8)
    before = stack.states(x).outputs
    with torch.no_grad():
        stack.layers[-1].weights.fill_(0.0)
        stack.layers[-1].weights[-5] = 1.0  # of five layers the first
    assert not torch.allclose(before[-1], before[0])
    assert torch.allclose(stack(x), before[0])
