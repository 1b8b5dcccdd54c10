"""Sparsemax (Martins and Astudillo, 2016, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Forward, Metadata, Paper, hookimpl
from bakeoff.plugins.activations._entmax import needs_entmax


def reference(x: torch.Tensor) -> torch.Tensor:
    """The projection of each row onto the simplex: max(0, x − τ), with τ from the sorted row."""
    # A shift changes nothing, and keeps the comparison below exact for large x.
    x = x - x.amax(-1, keepdim=True).detach()
    ordered = x.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    sums = ordered.cumsum(-1)
    # At least one, also in a row with a NaN, where every comparison fails.
    support = (1 + count * ordered > sums).sum(-1, keepdim=True).clamp(min=1)  # (…, 1)
    threshold = (sums.gather(-1, support - 1) - 1) / support
    # So put, a NaN stays one.
    return torch.where(x <= threshold, torch.zeros_like(x), x - threshold)


def package(x: torch.Tensor) -> torch.Tensor:
    """The implementation of its authors, in the package entmax."""
    from entmax import sparsemax

    result: torch.Tensor = sparsemax(x, dim=-1)
    return result


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Sparsemax."""
    yield Activation(
        "sparsemax",
        forwards={"reference": reference, "package": Forward(package, supports=needs_entmax)},
        metadata=Metadata(
            title="Sparsemax",
            summary="The nearest probability distribution, with exact zeros.",
            formula=r"\phi(x) = \arg\min_{p \in \Delta} \lVert p - x \rVert^2",
            strengths=("exact zeros: a sparse distribution", "piecewise linear"),
            weaknesses=("needs a sort", "no gradient for what is zero"),
            use_when="Attention or outputs that should pick a few of many.",
            tags=("normalising", "output_layer"),
            paper=Paper(
                title="From Softmax to Sparsemax: A Sparse Model of Attention and "
                "Multi-Label Classification",
                authors=("André F. T. Martins", "Ramón Fernandez Astudillo"),
                year=2016,
                url="https://arxiv.org/abs/1602.02068",
            ),
            properties={"elementwise": False, "range": (0.0, 1.0)},
        ),
    )
