"""GLU (Dauphin et al., 2016, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Forward, Metadata, Paper, hookimpl
from bakeoff.plugins.activations._gating import needs_halves


def reference(x: torch.Tensor) -> torch.Tensor:
    """value · σ(gate), the first half of the features and the second."""
    value, gate = x.chunk(2, -1)
    return value * torch.sigmoid(gate)


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.glu(x, -1)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """GLU."""
    yield Activation(
        "glu",
        forwards={
            "reference": Forward(reference, supports=needs_halves),
            "torch": Forward(fused, supports=needs_halves),
        },
        gated=True,
        metadata=Metadata(
            title="GLU",
            summary="The first half of the features, gated by the sigmoid of the second.",
            formula=r"\phi([a, b]) = a \odot \sigma(b)",
            strengths=("a linear path for the gradient",),
            weaknesses=("half of the features go into gates", "the gate saturates"),
            use_when="Feed-forward and convolutional blocks of language models.",
            tags=("gated", "hidden_layer", "language"),
            paper=Paper(
                title="Language Modeling with Gated Convolutional Networks",
                authors=("Yann N. Dauphin", "Angela Fan", "Michael Auli", "David Grangier"),
                year=2016,
                url="https://arxiv.org/abs/1612.08083",
            ),
            properties={"elementwise": False, "range": (-float("inf"), float("inf"))},
        ),
    )
