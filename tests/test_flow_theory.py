"""Gaussian expectations, gains and the edge of chaos, against published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special

import bakeoff
from bakeoff import Activation, Catalog, Metadata, UnsupportedError
from bakeoff.suites.flow.gains import initialisation, torch_gain
from bakeoff.suites.flow.initialisation import INITIALISATIONS, initialisation_for
from bakeoff.suites.flow.quadrature import Curve, curve_of, moments, steepest
from bakeoff.suites.flow.theory import chi, critical, fixed_point, on_the_edge, variance_map
from bakeoff.suites.selection import Selection

#: E[φ²], 1/std, sup φ' and least value for z ~ N(0, 1), by other quadratures.
PUBLISHED = {
    "relu": (0.5, 1.712859, 1.0, 0.0),
    "tanh": (0.394294, 1.592537, 1.0, -1.0),
    "gelu": (0.425221, 1.700926, 1.128904, -0.169971),
    "silu": (0.355776, 1.787187, 1.099839, -0.278465),
    "selu": (1.0, 1.0, 1.758099, -1.758099),
    "sigmoid": (0.293379, 4.801313, 0.25, 0.0),
}
#: Where the steepest slope and the least value lie.
AT = {"gelu": (math.sqrt(2), -0.7518), "silu": (2.3994, -1.2785)}
LOADED = bakeoff.load(entry_points=False, pyproject=False)
#: Adapters, which a run leaves out too, depend on what is installed.
ACTIVATIONS = Selection(kinds=("activation",)).chosen(LOADED)
ELEMENTWISE = [v.name for v in ACTIVATIONS if v.declared("elementwise")]
OTHERS = [v.name for v in ACTIVATIONS if not v.declared("elementwise")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_expectations(catalog: Catalog, name: str) -> None:
    second, inverse_deviation, slope, _ = PUBLISHED[name]
    found = initialisation(catalog[name])
    assert found.second_moment == pytest.approx(second, abs=1e-6)
    assert found.gain == pytest.approx(1 / math.sqrt(second), abs=3e-6)
    assert found.gain_of_deviation == pytest.approx(inverse_deviation, abs=1e-6)
    assert steepest(curve_of(catalog[name])) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_extremes(catalog: Catalog, name: str) -> None:
    curve = curve_of(catalog[name])
    x = np.linspace(-60, 60, 2_400_001)
    values, slopes = curve(x)
    assert values.min() == pytest.approx(PUBLISHED[name][3], abs=1e-6)
    if name in AT:
        assert x[slopes.argmax()] == pytest.approx(AT[name][0], abs=1e-4)
        assert x[values.argmin()] == pytest.approx(AT[name][1], abs=1e-4)


def test_the_tanh_form_of_gelu(catalog: Catalog) -> None:
    x = np.linspace(0, 8, 800_001)
    difference = np.abs(curve_of(catalog["gelu_tanh"])(x)[0] - curve_of(catalog["gelu"])(x)[0])
    assert difference.max() == pytest.approx(4.732e-4, abs=1e-7)
    assert x[difference.argmax()] == pytest.approx(2.699, abs=1e-3)


def test_expectations_in_closed_form() -> None:
    # E[erf(√q z)²] = 2/π asin(2q / (1 + 2q)) (Williams, 1997), at variances far from 1 too.
    for q in (1e-3, 1.0, 50.0):
        found = moments(curve_of(torch.erf), q)
        assert found.second == pytest.approx(2 / math.pi * math.asin(2 * q / (1 + 2 * q)))
        assert found.slope == pytest.approx(4 / math.pi / math.sqrt(1 + 4 * q))
        step = 1e-4 * q
        higher, lower = (moments(curve_of(torch.erf), q + s).second for s in (step, -step))
        assert found.growth == pytest.approx((higher - lower) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("kink", [0.0, 0.3, -1.7182818, 3.0])
def test_a_kink_is_found_wherever_it_is(kink: float) -> None:
    found = moments(Curve("shifted", lambda x: torch.relu(x - kink)))
    tail = float(special.ndtr(-kink))
    density = math.exp(-(kink**2) / 2) / math.sqrt(2 * math.pi)
    assert found.second == pytest.approx((1 + kink**2) * tail - kink * density, abs=1e-9)
    assert found.slope == pytest.approx(tail, abs=1e-9)


def test_what_does_not_converge_is_told() -> None:
    with pytest.raises(bakeoff.BakeoffError, match="do not converge"):
        moments(Curve("bursting", lambda x: torch.exp(x.square())))


def test_edges_of_chaos(catalog: Catalog) -> None:
    relu, tanh = critical(curve_of(catalog["relu"])), critical(curve_of(catalog["tanh"]))
    assert (relu.weight_variance, relu.bias_variance) == pytest.approx((2, 0), abs=1e-9)
    assert tanh.weight_variance == pytest.approx(1.761, abs=5e-4)
    assert tanh.bias_variance == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "weight", "bias"),
    [("gelu", 1.98305826, 0.17292239), ("silu", 1.98800468, 0.55514317)],
)
def test_half_stable_points(catalog: Catalog, name: str, weight: float, bias: float) -> None:
    """Roberts, Yaida and Hanin (2022), section 5.3.4: where both χ are 1."""
    found = critical(curve_of(catalog[name]))
    assert found.weight_variance == pytest.approx(weight, abs=1e-7)
    assert found.bias_variance == pytest.approx(bias, abs=1e-7)
    assert found.stability == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_critical_points_are_critical(catalog: Catalog, name: str) -> None:
    curve = curve_of(catalog[name])
    try:
        found = critical(curve)
    except UnsupportedError as answer:
        assert name in ("softplus", "squared_relu")
        assert "no stable critical" in str(answer)  # noqa: PT017
        return
    q, weight, bias = found.fixed_point, found.weight_variance, found.bias_variance
    assert variance_map(curve, q, weight, bias) == pytest.approx(q, rel=1e-9)
    assert chi(curve, q, weight) == pytest.approx(1, rel=1e-9)
    assert bias >= 0
    assert found.stability <= 1 + 1e-6
    # χ∥ is the slope of the variance map, here by differences.
    ends = [variance_map(curve, q * (1 + s), weight, bias) for s in (1e-4, -1e-4)]
    assert found.stability == pytest.approx((ends[0] - ends[1]) / (2e-4 * q), rel=1e-4)


def test_what_has_no_critical_point_has_none() -> None:
    """Along the whole edge of chaos squared ReLU's variance runs away, and softplus's σ_b² < 0."""
    for name in ("softplus", "squared_relu"):
        for q in np.geomspace(1e-3, 1e3, 13):
            point = on_the_edge(curve_of(LOADED[name]), float(q))
            assert point.stability > 1 or point.bias_variance < 0


def test_fixed_points_are_where_the_map_ends(catalog: Catalog) -> None:
    for name, weight, bias in (("tanh", 1.5, 0.05), ("sigmoid", 2.0, 0.0), ("gelu", 2.0, 0.1)):
        curve, q = curve_of(catalog[name]), 1.0
        for _ in range(300):
            q = variance_map(curve, q, weight, bias)
        assert fixed_point(curve, weight, bias) == pytest.approx(q, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "torch_says", "exact"),
    [("tanh", 5 / 3, 1.592537), ("selu", 0.75, 1.0), ("sigmoid", 1.0, 0.293379**-0.5)],
)
def test_calculate_gain(catalog: Catalog, name: str, torch_says: float, exact: float) -> None:
    found = initialisation(catalog[name])
    assert found.torch_gain == pytest.approx(torch_says)
    assert found.gain == pytest.approx(exact, abs=4e-6)
    if name == "tanh":
        assert found.torch_gain / found.gain == pytest.approx(1.047, abs=5e-4)


def test_gains_that_torch_has_right() -> None:
    for name in ("identity", "relu", "leaky_relu"):
        assert torch_gain(name) == pytest.approx(initialisation(LOADED[name]).gain, rel=1e-6)
    assert torch_gain("gelu") is None


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_layer_with_the_gain_keeps_its_scale(catalog: Catalog, name: str) -> None:
    """Not by quadrature: two wide layers, the second with weights of variance gain² / fan_in."""
    variant = catalog[name]
    assert isinstance(variant, Activation)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 1000, generator=generator, dtype=torch.float64)
    y = bakeoff.module(variant, 1000).double()(z).detach()
    kept = initialisation(variant).gain ** 2 * float(y.square().mean())
    assert kept == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_elementwise_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnsupportedError, match="not elementwise"):
        initialisation(catalog[name])


def test_other_kinds_are_refused(catalog: Catalog) -> None:
    with pytest.raises(UnsupportedError, match="no activation, but of kind connection"):
        initialisation(catalog["residual"])


def test_a_users_own(catalog: Catalog) -> None:
    metadata = Metadata(
        title="Sine", summary="A sine.", formula=r"\sin x", strengths="odd", weaknesses="periodic",
        use_when="Never.", tags="hidden_layer",
    )  # fmt: skip
    forwards = {"reference": lambda x, frequency: torch.sin(frequency * x)}
    sine = Activation("sine", forwards=forwards, options={"frequency": 1.0}, metadata=metadata)
    for frequency in (1.0, 3.0):
        expected = (1 - math.exp(-2 * frequency**2)) / 2
        found = initialisation(sine, options={"frequency": frequency})
        assert found.second_moment == pytest.approx(expected, abs=1e-9)
        assert initialisation(lambda x, f=frequency: torch.sin(f * x)).gain == pytest.approx(
            found.gain
        )


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_weights_have_the_variance_that_is_said(catalog: Catalog, name: str) -> None:
    variant = catalog["tanh"]
    assert isinstance(variant, Activation)
    found = initialisation_for(name, variant)
    weight = found.weight(300, 300, torch.Generator().manual_seed(0))
    assert float(weight.var()) * 300 == pytest.approx(found.weight_variance, rel=0.02)
    gram = weight @ weight.T / found.weight_variance
    off = float((gram - torch.eye(300, dtype=gram.dtype)).abs().max())
    assert (off < 1e-9) == found.orthogonal


def test_names_of_initialisations(catalog: Catalog) -> None:
    variant = catalog["tanh"]
    assert isinstance(variant, Activation)
    with pytest.raises(bakeoff.UnknownNameError, match="did you mean xavier"):
        initialisation_for("xavi", variant)


def test_the_point_for_another_bias() -> None:
    def line(q: float) -> float:
        return on_the_edge(curve_of(torch.tanh), q).bias_variance - 0.2

    found = critical(curve_of(torch.tanh), 0.2)
    assert found.fixed_point == pytest.approx(optimize.brentq(line, 0.1, 10.0), rel=1e-6)
