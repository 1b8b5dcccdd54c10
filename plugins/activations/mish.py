"""Mish (Misra, 2019)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x tanh(log(1 + eˣ))."""
    return x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x)))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.mish(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Mish."""
    yield Activation(
        "mish",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Mish",
            summary="The input times the tanh of its softplus.",
            formula=r"\phi(x) = x \tanh(\ln(1 + e^x))",
            strengths=("smooth", "a gradient for negative inputs too"),
            weaknesses=("among the dearest elementwise activations", "not monotonic"),
            use_when="Vision backbones in which SiLU works.",
            tags=("hidden_layer", "vision"),
            paper=Paper(
                title="Mish: A Self Regularized Non-Monotonic Activation Function",
                authors=("Diganta Misra",),
                year=2019,
                url="https://arxiv.org/abs/1908.08681",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": False,
                "range": (-0.30884341301725043, float("inf")),
                "zero_centred": False,
            },
        ),
    )
