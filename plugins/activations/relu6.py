"""ReLU6 (Krizhevsky, 2010)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """min(max(0, x), 6)."""
    zero, six = torch.zeros_like(x), torch.full_like(x, 6)
    return torch.where(x <= 0, zero, torch.where(x >= 6, six, x))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.relu6(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """ReLU6."""
    yield Activation(
        "relu6",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="ReLU6",
            summary="ReLU, cut off at 6.",
            formula=r"\phi(x) = \min(\max(0, x), 6)",
            strengths=("bounded, so fixed-point numbers keep their precision", "as cheap as ReLU"),
            weaknesses=("units die on both sides",),
            use_when="Mobile networks that will be quantised.",
            tags=("rectifier", "saturating", "hidden_layer", "mobile"),
            paper=Paper(
                title="Convolutional Deep Belief Networks on CIFAR-10",
                authors=("Alex Krizhevsky",),
                year=2010,
                url="https://www.cs.toronto.edu/~kriz/conv-cifar10-aug2010.pdf",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (0.0, 6.0),
                "zero_centred": False,
            },
        ),
    )
