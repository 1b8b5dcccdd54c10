"""Half precision costs a few roundings, in every forward and however long the sequence is."""

from __future__ import annotations

import pytest
import torch
from rounding import BOUND, Sample, cases, forwards

import bakeoff
from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.tensors import arguments_for, dtype_of, unit_roundoff

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
OURS = [v for v in CATALOG.values() if "peer" not in v.metadata.tags]
over_variants = pytest.mark.parametrize("variant", OURS, ids=[v.name for v in OURS])
over_dtypes = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])


def require_few_roundings(variant: Variant, dtype: str, length: int) -> None:
    """No forward loses a row, or is off by more than :data:`BOUND` roundoffs."""
    bound = BOUND * unit_roundoff(dtype_of(dtype))
    bad = []
    for case in cases(variant, dtype, length):
        sample = Sample(variant, case)
        for name in forwards(variant, case):
            found = sample.rounding(name)
            if found.relative_error > bound or found.zeros or found.infinite:
                bad.append(f"{name} {case.pattern}: {found}, expected at most {bound:.2g}")
    assert not bad, "\n".join(bad)


@over_variants
@over_dtypes
def test_few_roundings(variant: Variant, dtype: str) -> None:
    # The reference of additive attention holds N² D numbers.
    require_few_roundings(variant, dtype, 256 if variant.name == "additive" else 1024)


@pytest.mark.slow
@over_variants
@over_dtypes
def test_few_roundings_of_long_sequences(variant: Variant, dtype: str) -> None:
    if variant.name == "additive":
        pytest.skip("its reference holds N² D numbers: 8 GiB in float64")
    require_few_roundings(variant, dtype, 4096)


@pytest.mark.parametrize("name", ["retention", "alibi"])
def test_every_head_survives_a_cast_of_the_module(name: str) -> None:
    """The slowest decays and the flattest slopes too: their buffers hold in half precision."""
    shape = Shape(1, 12, 12, 512, 512, 16, 16)
    variant = CATALOG[name]
    case = Case(kind="attention", shape=shape, pattern="causal_self")
    q, k, v = arguments_for(variant, case).to(torch.bfloat16).data.values()
    exact = bakeoff.module(variant, shape).double()(*(x.double() for x in (q, k, v)), causal=True)
    for forward in variant.forwards:
        module = bakeoff.module(variant, shape, forward=forward).to(torch.bfloat16)
        found = module(q, k, v, causal=True)
        errors = (found - exact).flatten(2).norm(dim=2) / exact.flatten(2).norm(dim=2)  # (1, H)
        assert errors.max() <= BOUND * unit_roundoff(torch.bfloat16), errors


@pytest.mark.parametrize("mean", [-20.0, -8.0, 8.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_of_linear_attention_do_not_cancel(mean: float, dtype: torch.dtype) -> None:
    """elu(x) + 1 far below zero is exp(x), of which adding 1 would leave nothing."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 64, 16, generator=generator) for _ in range(3))
    q, k, v = (x.to(dtype) for x in (q / 2 + mean, k + mean, v))
    exponentials = [
        torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q.double(), k.double())
    ]
    weights = exponentials[0] @ exponentials[1].mT
    exact = weights @ v.double() / weights.sum(-1, keepdim=True)
    for forward in CATALOG["linear_attention"].forwards.values():
        error = (forward.fn(q, k, v) - exact).norm() / exact.norm()
        assert error <= BOUND * unit_roundoff(dtype)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("forward", ["reference", "tiled"])
def test_decay_between_near_places_is_exact_however_far_they_are(
    forward: str, causal: bool
) -> None:
    """Levels grow with the place to 3,000; rounded to float32 they would be off by 10⁻⁴."""
    n, generator = 2048, torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, 8, generator=generator) for _ in range(3))
    gates = -torch.rand(1, 1, n, generator=generator) * 3
    variant = CATALOG["forgetting"]
    exact = variant.forward("reference").fn(
        *(x.double() for x in (q, k, v)), log_gates=gates.double(), causal=causal
    )
    found = variant.forward(forward).fn(q, k, v, log_gates=gates, causal=causal)
    assert (found - exact).norm() / exact.norm() <= BOUND * unit_roundoff(torch.float32)
