"""GEGLU (Shazeer, 2020, equation 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Forward, Metadata, Paper, hookimpl
from bakeoff.plugins.activations._gating import needs_halves


def reference(x: torch.Tensor) -> torch.Tensor:
    """value · gate Φ(gate), the first half of the features and the second."""
    value, gate = x.chunk(2, -1)
    return value * (gate * (0.5 * torch.erfc(-gate / math.sqrt(2))))


def fused(x: torch.Tensor) -> torch.Tensor:
    """Through torch's GELU."""
    value, gate = x.chunk(2, -1)
    return value * F.gelu(gate)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """GEGLU."""
    yield Activation(
        "geglu",
        forwards={
            "reference": Forward(reference, supports=needs_halves),
            "torch": Forward(fused, supports=needs_halves),
        },
        gated=True,
        metadata=Metadata(
            title="GEGLU",
            summary="The first half of the features, gated by the GELU of the second.",
            formula=r"\phi([a, b]) = a \odot \operatorname{GELU}(b)",
            strengths=("among the best of its paper",),
            weaknesses=("half of the features go into gates", "an erf for each gate"),
            use_when="Feed-forward blocks of transformers.",
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
