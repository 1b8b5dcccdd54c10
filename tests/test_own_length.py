"""What depends on the number of keys by definition does not where an option fixes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import Shape

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
N = 20
FIXED: dict[str, dict[str, Any]] = {
    "sigmoid_attention": {"length": N},
    "strided_sparse": {"stride": 3},
}
LABELS = [(name, forward) for name in FIXED for forward in CATALOG[name].forwards]


def drawn() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, N, 4, generator=generator, dtype=torch.float64) for _ in range(3)]


def made(name: str, forward: str, options: dict[str, Any]) -> torch.nn.Module:
    shape = Shape(2, 2, 2, N, N, 4, 4)
    return bakeoff.module(CATALOG[name], shape, forward=forward, options=options)


def decoded(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """The last rows of a causal pass, and the same from one step of decoding for each."""
    q, k, v = drawn()
    steps = [
        module(q[:, :, i : i + 1], k[:, :, : i + 1], v[:, :, : i + 1], causal=True)
        for i in range(N // 2, N)
    ]
    return module(q, k, v, causal=True)[:, :, N // 2 :], torch.cat(steps, 2)


def padded(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """The first rows with hidden keys after them, and the same without those."""
    q, k, v = drawn()
    real = N // 2
    with_padding = module(q, k, v, mask=torch.arange(N) < real)[:, :, :real]
    return with_padding, module(*(x[:, :, :real] for x in (q, k, v)))


@pytest.mark.parametrize("rows", [decoded, padded])
@pytest.mark.parametrize(("name", "forward"), LABELS)
def test_only_a_fixed_option_is_independent_of_the_length(
    name: str, forward: str, rows: Any
) -> None:
    torch.testing.assert_close(*rows(made(name, forward, FIXED[name])), rtol=1e-10, atol=1e-12)
    whole, alone = rows(made(name, forward, {}))
    assert (whole - alone).abs().max() > 0.01
    assert any("padding counts" in told for told in CATALOG[name].metadata.weaknesses)
