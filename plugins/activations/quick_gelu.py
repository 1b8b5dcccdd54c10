"""Quick GELU (Hendrycks and Gimpel, 2016, section 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x σ(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def fused(x: torch.Tensor) -> torch.Tensor:
    """Through torch's SiLU: it keeps one tensor for the backward, where a product keeps two."""
    return F.silu(1.702 * x) / 1.702


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Quick GELU."""
    yield Activation(
        "quick_gelu",
        forwards={"reference": reference, "torch": fused},
        approximates="gelu",
        metadata=Metadata(
            title="Quick GELU",
            summary="GELU with its distribution function approximated by a sigmoid.",
            formula=r"\phi(x) = x\,\sigma(1.702\,x)",
            strengths=("one sigmoid", "what CLIP was trained with"),
            weaknesses=("the roughest approximation of GELU, up to 0.02 off",),
            use_when="Where weights were trained with it, as CLIP's.",
            tags=("hidden_layer", "vision", "multimodal"),
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
                "range": (-0.1636101896363536, float("inf")),
                "zero_centred": False,
            },
        ),
    )
