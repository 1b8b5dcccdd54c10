"""ReGLU (Shazeer, 2020, equation 5)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Forward, Metadata, Paper, hookimpl
from bakeoff.plugins.activations._gating import needs_halves


def reference(x: torch.Tensor) -> torch.Tensor:
    """value · max(0, gate), the first half of the features and the second."""
    value, gate = x.chunk(2, -1)
    return value * torch.where(gate <= 0, torch.zeros_like(gate), gate)


def fused(x: torch.Tensor) -> torch.Tensor:
    """Through torch's ReLU."""
    value, gate = x.chunk(2, -1)
    return value * torch.relu(gate)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """ReGLU."""
    yield Activation(
        "reglu",
        forwards={
            "reference": Forward(reference, supports=needs_halves),
            "torch": Forward(fused, supports=needs_halves),
        },
        gated=True,
        metadata=Metadata(
            title="ReGLU",
            summary="The first half of the features, gated by the ReLU of the second.",
            formula=r"\phi([a, b]) = a \odot \max(0, b)",
            strengths=("as cheap as ReLU", "better than ReLU at equal parameters"),
            weaknesses=("half of the features go into gates", "gates can die"),
            use_when="Feed-forward blocks of transformers, where exponentials cost.",
            tags=("gated", "hidden_layer", "language"),
            paper=Paper(
                title="GLU Variants Improve Transformer",
                authors=("Noam Shazeer",),
                year=2020,
                url="https://arxiv.org/abs/2002.05202",
            ),
            properties={"elementwise": False, "range": (-float("inf"), float("inf"))},
        ),
    )
