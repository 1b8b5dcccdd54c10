"""SiLU (Elfwing et al., 2017; Swish with beta = 1 in Ramachandran et al., 2017, section 4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x σ(x)."""
    return x * torch.sigmoid(x)


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.silu(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """SiLU."""
    yield Activation(
        "silu",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="SiLU",
            summary="The input times its own sigmoid.",
            formula=r"\phi(x) = x\,\sigma(x) = \frac{x}{1 + e^{-x}}",
            strengths=("smooth", "a gradient for negative inputs too"),
            weaknesses=("dearer than ReLU", "not monotonic"),
            use_when="Deep networks where ReLU's kink or dead units hurt.",
            tags=("hidden_layer", "vision", "language"),
            paper=Paper(
                title="Sigmoid-Weighted Linear Units for Neural Network Function Approximation "
                "in Reinforcement Learning",
                authors=("Stefan Elfwing", "Eiji Uchibe", "Kenji Doya"),
                year=2017,
                url="https://arxiv.org/abs/1702.03118",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": False,
                "range": (-0.2784645427610738, float("inf")),
                "zero_centred": False,
            },
            aliases=("swish",),
        ),
    )
