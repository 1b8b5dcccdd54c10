"""ReGLU (Shazeer, 2020, equation 5)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """value · max(0, gate); as in glu the second half is the gate."""
    value, gate = x.chunk(2, -1)
    return value * torch.where(gate > 0, gate, torch.zeros_like(gate))


def fused(x: torch.Tensor) -> torch.Tensor:
    """Through torch's ReLU."""
    value, gate = x.chunk(2, -1)
    return value * torch.relu(gate)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """ReGLU."""
    yield Activation(
        "reglu",
        forwards={"reference": reference, "torch": fused},
        gated=True,
        metadata=Metadata(
            title="ReGLU",
            summary="GLU with ReLU for its gate.",
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
