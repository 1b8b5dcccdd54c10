"""CELU (Barron, 2017)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Identity, Metadata, Paper, hookimpl


def reference(x: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """x above zero, alpha (exp(x/alpha) − 1) below it."""
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


def fused(x: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """torch's kernel."""
    return F.celu(x, alpha)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """CELU."""
    yield Activation(
        "celu",
        forwards={"reference": reference, "torch": fused},
        options={"alpha": 1.0},
        identities=(
            Identity(
                "alpha = 1",
                options=lambda features: {"alpha": 1.0},
                equals="elu",
                unless=lambda features: {"alpha": 2.0},
            ),
        ),
        metadata=Metadata(
            title="CELU",
            summary="ELU made continuously differentiable for every alpha.",
            formula=r"\phi(x) = x \text{ for } x > 0,\quad \alpha (e^{x/\alpha} - 1) \text{"
            r" otherwise}",
            strengths=("smooth for every alpha", "its slope never exceeds 1"),
            weaknesses=("needs an exponential",),
            use_when="As ELU, where alpha is tuned.",
            tags=("hidden_layer", "vision"),
            paper=Paper(
                title="Continuously Differentiable Exponential Linear Units",
                authors=("Jonathan T. Barron",),
                year=2017,
                url="https://arxiv.org/abs/1704.07483",
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
