"""ELU (Clevert et al., 2015, equation 15)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Identity, Metadata, Paper, hookimpl


def reference(x: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """x above zero, alpha (eˣ − 1) below it."""
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def fused(x: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """torch's kernel."""
    return F.elu(x, alpha)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """ELU."""
    yield Activation(
        "elu",
        forwards={"reference": reference, "torch": fused},
        options={"alpha": 1.0},
        identities=(
            Identity(
                "alpha = 0",
                options=lambda features: {"alpha": 0.0},
                equals="relu",
            ),
        ),
        metadata=Metadata(
            title="ELU",
            summary="The input above zero, an exponential that saturates at −alpha below it.",
            formula=r"\phi(x) = x \text{ for } x > 0,\quad \alpha (e^x - 1) \text{ otherwise}",
            strengths=("mean activations nearer to zero than ReLU's", "units do not die"),
            weaknesses=("needs an exponential", "a kink at zero unless alpha is 1"),
            use_when="Deep networks without normalisation layers.",
            tags=("hidden_layer", "vision"),
            paper=Paper(
                title="Fast and Accurate Deep Network Learning by Exponential Linear Units (ELUs)",
                authors=("Djork-Arné Clevert", "Thomas Unterthiner", "Sepp Hochreiter"),
                year=2015,
                url="https://arxiv.org/abs/1511.07289",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (-1.0, float("inf")),
                "zero_centred": False,
            },
        ),
    )
