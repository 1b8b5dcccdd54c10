"""GELU (Hendrycks and Gimpel, 2016, section 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x Φ(x), Φ the normal distribution function: ½ erfc(−x/√2), which cancels nowhere."""
    return x * 0.5 * torch.erfc(-x / math.sqrt(2))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.gelu(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """GELU."""
    yield Activation(
        "gelu",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="GELU",
            summary="The input times the probability that a normal variable lies below it.",
            formula=r"\phi(x) = x\,\Phi(x) = \frac{x}{2}\left(1 +"
            r" \operatorname{erf}\frac{x}{\sqrt 2}\right)",
            strengths=("smooth", "the standard of transformers"),
            weaknesses=("dearer than ReLU", "not monotonic"),
            use_when="The feed-forward blocks of transformers.",
            tags=("hidden_layer", "language", "vision"),
            paper=Paper(
                title="Gaussian Error Linear Units (GELUs)",
                authors=("Dan Hendrycks", "Kevin Gimpel"),
                year=2016,
                url="https://arxiv.org/abs/1606.08415",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": False,
                "range": (-0.16997120747990369, float("inf")),
                "zero_centred": False,
            },
        ),
    )
