"""Softplus (Dugas et al., 2000, section 3)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """log(1 + eˣ)."""
    return torch.logaddexp(x, torch.zeros_like(x))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel; its default threshold of 20 would cost 2e-9, too much in float64."""
    return F.softplus(x, threshold=50)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Softplus."""
    yield Activation(
        "softplus",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Softplus",
            summary="A smooth ReLU.",
            formula=r"\phi(x) = \ln(1 + e^x)",
            strengths=("smooth and positive", "its gradient is the sigmoid"),
            weaknesses=("dearer than ReLU and seldom better", "never exactly zero"),
            use_when="Outputs that must be positive: variances, rates.",
            tags=("output_layer",),
            paper=Paper(
                title="Incorporating Second-Order Functional Knowledge for Better Option Pricing",
                authors=(
                    "Charles Dugas",
                    "Yoshua Bengio",
                    "François Bélisle",
                    "Claude Nadeau",
                    "René Garcia",
                ),
                year=2000,
                url="https://proceedings.neurips.cc/paper/2000/hash/44968aece94f667e4095002d140b5896-Abstract.html",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (0.0, float("inf")),
                "zero_centred": False,
            },
        ),
    )
