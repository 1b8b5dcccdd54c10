"""Activations: every forward against the reference, identities, and what a forward refuses."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import optimize
from torch.utils._python_dispatch import TorchDispatchMode

import bakeoff
from bakeoff import Activation, Case, FeatureShape, Identity
from bakeoff.registry.binding import draw, resolve_options

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
#: Other libraries' kernels are held to the budget alone, in test_adapters.py: torch's tanhshrink
#: cancels near zero, and that is what a user of it gets.
ACTIVATIONS = [
    v
    for v in CATALOG.select(kind="activation")
    if isinstance(v, Activation) and "peer" not in v.metadata.tags
]
FORWARDS = [(variant, name) for variant in ACTIVATIONS for name in variant.forwards]
FEATURES = 24
EPS = torch.finfo(torch.float64).eps
#: Where some activation has a kink, or is patched together from two formulas.
KINKS = (-3.0, -1.0, 0.0, 1.0, 3.0, 6.0)


def over(forwards: list[tuple[Activation, str]]) -> pytest.MarkDecorator:
    names = [f"{variant.name}:{name}" for variant, name in forwards]
    return pytest.mark.parametrize(("variant", "name"), forwards, ids=names)


over_forwards = over(FORWARDS)
over_fast = over([(variant, name) for variant, name in FORWARDS if name != "reference"])
over_dtypes = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)


def case_of(direction: str = "training", dtype: str = "float64", features: int = FEATURES) -> Case:
    shape = FeatureShape(batch=3, seq_len=5, features=features)
    return Case(kind="activation", shape=shape, direction=direction, dtype=dtype)


def skip_if_refused(
    variant: Activation, name: str, direction: str, dtype: torch.dtype = torch.float64
) -> None:
    case = case_of(direction, str(dtype).removeprefix("torch."))
    if reason := variant.forward(name).why_not(case):
        pytest.skip(reason)


def keywords(variant: Activation, like: torch.Tensor, spread: float = 0.0) -> dict[str, Any]:
    """The options and the drawn parameters, these in the dtype of ``like``, moved by ``spread``."""
    generator = torch.Generator().manual_seed(1)
    drawn = draw(variant, "parameters", like.shape[-1], generator, variant.options)
    moved = {
        name: (t.detach() + spread * torch.randn(t.shape, generator=generator)).to(like)
        for name, t in drawn.items()
    }
    return {**variant.options, **moved}


def reference(name: str, x: torch.Tensor) -> torch.Tensor:
    """What the reference of ``name`` gives, with the default options and parameters."""
    variant = CATALOG[name]
    assert isinstance(variant, Activation)
    result: torch.Tensor = variant.forward("reference").fn(x, **keywords(variant, x))
    return result


def outputs_and_gradients(
    variant: Activation, name: str, x: torch.Tensor, computed_in: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """The output, and the gradients of x and of every parameter along a random direction.

    All that is given is rounded to the dtype of ``x``, also where another one is computed in.
    """
    given = {"x": x, **keywords(variant, x, spread=0.1)}
    leaves = {
        n: t.to(computed_in, copy=True).requires_grad_()
        for n, t in given.items()
        if torch.is_tensor(t)
    }
    y = variant.forward(name).fn(**{**given, **leaves})
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(x).to(y)
    gradients = torch.autograd.grad(y, list(leaves.values()), direction)
    return {"output": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def normal_inputs(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal draws, among which every kink stands twice, in both halves of the features."""
    x = torch.randn(3, 5, FEATURES, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[0, 0, : len(KINKS)] = x[1, 1, -len(KINKS) :] = torch.tensor(KINKS, dtype=dtype)
    return x


def extreme_inputs(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Sizes from 50 to 1e4, of either sign: in mixed rows, and in rows of one."""
    sizes = torch.tensor([50.0, -50.0, 1e3, -1e3, 1e4, -1e4], dtype=dtype)
    mixed = sizes.repeat(FEATURES // len(sizes))
    shuffled = mixed[torch.randperm(FEATURES, generator=torch.Generator().manual_seed(3))]
    return torch.stack([mixed, shuffled, *sizes[:, None].expand(-1, FEATURES)])


@pytest.mark.parametrize("variant", ACTIVATIONS, ids=[v.name for v in ACTIVATIONS])
def test_has_a_second_definition(variant: Activation) -> None:
    assert len(variant.forwards) >= 2


@over_fast
def test_goes_another_way_than_the_reference(variant: Activation, name: str) -> None:
    skip_if_refused(variant, name, "forward")

    def operations(name: str) -> set[str]:
        seen: set[str] = set()

        class Listen(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
                seen.add(func.overloadpacket.__name__)
                return func(*args, **(kwargs or {}))

        x = normal_inputs()
        given = keywords(variant, x)
        with Listen():
            variant.forward(name).fn(x, **given)
        return seen

    assert operations(name) - operations("reference")


@over_fast
@pytest.mark.parametrize("inputs", [normal_inputs, extreme_inputs])
def test_agrees_with_the_reference(
    variant: Activation, name: str, inputs: Callable[[], torch.Tensor]
) -> None:
    skip_if_refused(variant, name, "training")
    found = outputs_and_gradients(variant, name, inputs())
    expected = outputs_and_gradients(variant, "reference", inputs())
    assert found.keys() == expected.keys()
    for quantity, right in expected.items():
        largest = max(1.0, float(right.abs().max()))
        error = float((found[quantity] - right).abs().max())
        assert error <= 256 * EPS * largest, quantity


@over_forwards
@over_dtypes
def test_overflows_only_where_the_exact_result_does(
    variant: Activation, name: str, dtype: torch.dtype
) -> None:
    if name == "reference" and dtype == torch.float16:
        pytest.skip("an oracle is for float64; between its lines float16 may overflow")
    skip_if_refused(variant, name, "training", dtype)
    x = extreme_inputs(dtype)
    exact = outputs_and_gradients(variant, "reference", x, computed_in=torch.float64)
    for quantity, tensor in outputs_and_gradients(variant, name, x).items():
        assert torch.equal(tensor.isfinite(), exact[quantity].to(dtype).isfinite()), quantity


@over_forwards
@over_dtypes
@pytest.mark.parametrize("rows", [(), (1, 1), (2, 7)], ids=str)
def test_keeps_dtype_shape_and_input(
    variant: Activation, name: str, dtype: torch.dtype, rows: tuple[int, ...]
) -> None:
    skip_if_refused(variant, name, "forward", dtype)
    x = torch.randn(*rows, FEATURES, generator=torch.Generator().manual_seed(0)).to(dtype)
    before, fn, given = x.clone(), variant.forward(name).fn, keywords(variant, x)
    y = fn(x, **given)
    width = FEATURES // 2 if variant.gated else FEATURES
    assert (y.dtype, y.shape) == (dtype, (*rows, width))
    assert torch.equal(x, before)
    strided = torch.stack([x, -x], -1)[..., 0]
    torch.testing.assert_close(fn(strided, **given), y)


@pytest.mark.parametrize(
    ("variant", "identity", "name"),
    [(v, i, name) for v in ACTIVATIONS for i in v.identities for name in v.forwards],
    ids=lambda value: getattr(value, "name", value),
)
def test_identity_holds_and_its_counterpart_does_not(
    variant: Activation, identity: Identity, name: str
) -> None:
    x = normal_inputs()

    def equal() -> torch.Tensor:
        if isinstance(identity.equals, str):
            return reference(identity.equals, x)
        result: torch.Tensor = identity.equals(x)
        return result

    def distance(options: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> float:
        given = keywords(variant, x) | resolve_options(variant, options)
        given |= {name: tensor.to(x) for name, tensor in tensors.items()}
        return float((variant.forward(name).fn(x, **given) - equal()).abs().max())

    options = identity.options(FEATURES) if identity.options else {}
    tensors = identity.tensors(FEATURES) if identity.tensors else {}
    unless = identity.unless(FEATURES) if identity.unless else {}
    assert distance(options, tensors) <= 64 * EPS
    assert distance(unless, {}) > 1e-3


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("log_softmax", lambda x: reference("softmax", x).log()),
        ("swish_beta", lambda x: reference("silu", x)),
        ("hardswish", lambda x: x * reference("hardsigmoid", x)),
        ("squared_relu", lambda x: x * reference("relu", x)),
        ("relu6", lambda x: reference("relu", x) - reference("relu", x - 6)),
        ("glu", lambda x: x[..., :12] * reference("sigmoid", x[..., 12:])),
        ("glu", lambda x: F.glu(x, -1)),
        ("reglu", lambda x: x[..., :12] * reference("relu", x[..., 12:])),
        ("geglu", lambda x: x[..., :12] * reference("gelu", x[..., 12:])),
        ("swiglu", lambda x: x[..., :12] * reference("silu", x[..., 12:])),
    ],
)
def test_is_made_of_another(name: str, same: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = normal_inputs()
    torch.testing.assert_close(reference(name, x), same(x), rtol=0, atol=64 * EPS)


@pytest.mark.parametrize(("name", "alpha"), [("sparsemax", 2.0), ("entmax15", 1.5)])
def test_entmax_solves_for_its_threshold(name: str, alpha: float) -> None:
    """Σ max(0, (α − 1) x − τ)^(1/(α − 1)) = 1 has one root τ."""

    def weights(row: np.ndarray, threshold: float) -> np.ndarray:
        return np.maximum(0, (alpha - 1) * row - threshold) ** (1 / (alpha - 1))

    for row in 2 * normal_inputs().reshape(-1, FEATURES).numpy():
        top = (alpha - 1) * row.max()
        root = optimize.brentq(lambda t, r=row: weights(r, t).sum() - 1, top - 1, top, xtol=1e-15)
        found = reference(name, torch.from_numpy(row)).numpy()
        np.testing.assert_allclose(found, weights(row, root), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax", "entmax15"])
def test_nan_stays_in_its_row(name: str) -> None:
    x = normal_inputs()
    expected = reference(name, x)
    x[1, 2, 3] = torch.nan
    found = reference(name, x)
    assert found[1, 2].isnan().any()
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize("name", ["glu", "reglu", "geglu", "swiglu"])
def test_gated_activation_wants_an_even_number_of_features(name: str) -> None:
    for forward in CATALOG[name].forwards.values():
        assert forward.why_not(case_of(features=6)) is None
        assert forward.why_not(case_of(features=7)) == "7 features do not fall into two halves"


def test_hardsigmoid_refuses_the_gradient_that_torch_rounds() -> None:
    forward = CATALOG["hardsigmoid"].forward("torch")
    assert forward.why_not(case_of("training")) == "torch's kernel rounds 1/6 to float32"
    assert forward.why_not(case_of("forward")) is None
    assert forward.why_not(case_of("training", "float32")) is None
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(forward.fn(x), x)
    assert float(slope) == float(np.float32(1) / np.float32(6)), "torch has mended it"


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_package_says_when_it_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    reason = CATALOG[name].forward("package").why_not(case_of())
    assert reason == "package entmax is not installed: pip install 'bakeoff[entmax]'"
