"""Leaky ReLU (Maas et al., 2013, section 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Identity, Metadata, Paper, hookimpl


def reference(x: torch.Tensor, *, negative_slope: float) -> torch.Tensor:
    """x above zero, negative_slope · x below it."""
    return torch.where(x > 0, x, negative_slope * x)


def fused(x: torch.Tensor, *, negative_slope: float) -> torch.Tensor:
    """torch's kernel."""
    return F.leaky_relu(x, negative_slope)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Leaky ReLU."""
    yield Activation(
        "leaky_relu",
        forwards={"reference": reference, "torch": fused},
        options={"negative_slope": 0.01},
        identities=(
            Identity(
                "negative_slope = 0",
                options=lambda features: {"negative_slope": 0.0},
                equals="relu",
            ),
        ),
        metadata=Metadata(
            title="Leaky ReLU",
            summary="ReLU with a small slope for negative inputs.",
            formula=r"\phi(x) = \max(0, x) + a \min(0, x)",
            strengths=("units do not die", "as cheap as ReLU"),
            weaknesses=("the slope is one more number to choose", "not smooth"),
            use_when="Where ReLU units die: high learning rates, GANs.",
            tags=("rectifier", "hidden_layer", "vision"),
            paper=Paper(
                title="Rectifier Nonlinearities Improve Neural Network Acoustic Models",
                authors=("Andrew L. Maas", "Awni Y. Hannun", "Andrew Y. Ng"),
                year=2013,
                url="https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (-float("inf"), float("inf")),
                "zero_centred": False,
            },
        ),
    )
