"""FlexAttention: where it says that it runs, and that it is the same function there."""

from __future__ import annotations

import warnings

import pytest
import torch

import bakeoff
from bakeoff import Case, Catalog, Shape

CUDA = torch.cuda.is_available()
SHAPE = Shape(2, 3, 3, 40, 150, 16, 16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"device": "cpu"}, "has no backward"),
        ({"dtype": "float64"}, "no float64"),
        ({"shape": Shape(1, 1, 1, 8, 8, 8, 8)}, "at least 16 features"),
    ],
)
def test_it_says_where_it_runs(catalog: Catalog, change: dict, reason: str | None) -> None:
    fields = {"shape": SHAPE, "pattern": "self", "device": "cuda", "dtype": "float32", **change}
    found = catalog["scaled_dot_product"].forward("flex").why_not(Case(kind="attention", **fields))
    assert (found is None) if reason is None else (reason in (found or ""))


def test_it_refuses_the_cpu(catalog: Catalog) -> None:
    module = bakeoff.module(catalog["scaled_dot_product"], SHAPE, forward="flex")
    with pytest.raises(bakeoff.UnsupportedError, match="on the CPU FlexAttention"):
        module(*(torch.randn(1, 3, 20, 16) for _ in range(3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="no GPU"))]
)
@pytest.mark.parametrize("masked", ["", "keys", "full"])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_reference(catalog: Catalog, device: str, masked: str, causal: bool) -> None:
    """On the CPU too, where it is not offered: forward only, and the first query sees no key."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 3, n, 16, generator=generator).to(device).requires_grad_(device == "cuda")
        for n in (40, 150, 150)
    )
    sizes = {"keys": (2, 1, 1, 150), "full": (2, 3, 40, 150)}
    mask = None
    if masked:
        mask = torch.rand(sizes[masked], generator=generator) < 0.5
        mask[:, :, 0] = False if masked == "full" else mask[:, :, 0]
        mask = mask.to(device)
    forwards = catalog["scaled_dot_product"].forwards
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        found = forwards["flex"].fn(q, k, v, mask=mask, causal=causal)
    expected = forwards["reference"].fn(q, k, v, mask=mask, causal=causal)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if device == "cuda":
        for ours, theirs in zip(
            torch.autograd.grad(found.sum(), (q, k, v)),
            torch.autograd.grad(expected.sum(), (q, k, v)),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
