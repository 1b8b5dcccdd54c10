"""SwiGLU (Shazeer, 2020, equation 5)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Forward, Metadata, Paper, hookimpl
from bakeoff.plugins.activations._gating import needs_halves


def reference(x: torch.Tensor) -> torch.Tensor:
    """value · gate σ(gate), the first half of the features and the second."""
    value, gate = x.chunk(2, -1)
    return value * (gate * torch.sigmoid(gate))


def fused(x: torch.Tensor) -> torch.Tensor:
    """Through torch's SiLU."""
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """SwiGLU."""
    yield Activation(
        "swiglu",
        forwards={
            "reference": Forward(reference, supports=needs_halves),
            "torch": Forward(fused, supports=needs_halves),
        },
        gated=True,
        metadata=Metadata(
            title="SwiGLU",
            summary="The first half of the features, gated by the SiLU of the second.",
            formula=r"\phi([a, b]) = a \odot \operatorname{SiLU}(b)",
            strengths=("among the best of its paper", "the standard of large language models"),
            weaknesses=("half of the features go into gates",),
            use_when="Feed-forward blocks of large language models.",
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
