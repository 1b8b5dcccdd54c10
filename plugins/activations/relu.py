"""ReLU (Nair and Hinton, 2010)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """max(0, x); a NaN stays one."""
    return torch.where(x <= 0, torch.zeros_like(x), x)


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return torch.relu(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """ReLU."""
    yield Activation(
        "relu",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="ReLU",
            summary="Zero below zero, the input above it.",
            formula=r"\phi(x) = \max(0, x)",
            strengths=(
                "the cheapest non-linearity",
                "its gradient does not shrink for positive inputs",
                "sparse outputs",
            ),
            weaknesses=(
                "units can die: no gradient for negative inputs",
                "not zero-centred, not smooth",
            ),
            use_when="The default for hidden layers of convolutional networks and MLPs.",
            tags=("rectifier", "hidden_layer", "vision"),
            paper=Paper(
                title="Rectified Linear Units Improve Restricted Boltzmann Machines",
                authors=("Vinod Nair", "Geoffrey E. Hinton"),
                year=2010,
                url="https://icml.cc/Conferences/2010/papers/432.pdf",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (0.0, float("inf")),
                "zero_centred": False,
            },
        ),
    )
