"""Sigmoid (the logistic unit of Rumelhart et al., 1986)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """1 / (1 + e⁻ˣ), which is eˣ / (1 + eˣ) below zero, so that no exponential overflows."""
    up, down = torch.exp(-x.clamp(min=0)), torch.exp(x.clamp(max=0))
    return torch.where(x > 0, 1 / (1 + up), down / (1 + down))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return torch.sigmoid(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Sigmoid."""
    yield Activation(
        "sigmoid",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Sigmoid",
            summary="Squashes the input into (0, 1).",
            formula=r"\sigma(x) = \frac{1}{1 + e^{-x}}",
            strengths=("reads as a probability", "smooth and bounded"),
            weaknesses=(
                "its gradient is at most 1/4 and vanishes with depth",
                "its output is not zero-centred",
                "needs an exponential",
            ),
            use_when="The output layer of a binary or multi-label task, and gates.",
            tags=("saturating", "output_layer"),
            paper=Paper(
                title="Learning representations by back-propagating errors",
                authors=("David E. Rumelhart", "Geoffrey E. Hinton", "Ronald J. Williams"),
                year=1986,
                url="https://www.nature.com/articles/323533a0",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (0.0, 1.0),
                "zero_centred": False,
            },
        ),
    )
