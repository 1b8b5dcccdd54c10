"""Softmax (Bridle, 1990)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """exp(x_i) / Σ_j exp(x_j), over the last dimension, shifted by the largest."""
    weights = torch.exp(x - x.amax(-1, keepdim=True).detach())
    return weights / weights.sum(-1, keepdim=True)


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return torch.softmax(x, -1)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Softmax."""
    yield Activation(
        "softmax",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Softmax",
            summary="Turns a row into a probability distribution.",
            formula=r"\phi(x)_i = \frac{e^{x_i}}{\sum_j e^{x_j}}",
            strengths=(
                "positive, and sums to 1",
                "the gradient of the cross-entropy with it is simple",
            ),
            weaknesses=("every output depends on every input", "saturates when logits are large"),
            use_when="The output layer of a classifier; the weights of attention.",
            tags=("normalising", "output_layer"),
            paper=Paper(
                title="Probabilistic Interpretation of Feedforward Classification Network "
                "Outputs, with Relationships to Statistical Pattern Recognition",
                authors=("John S. Bridle",),
                year=1990,
                url="https://doi.org/10.1007/978-3-642-76153-9_28",
            ),
            properties={"elementwise": False, "range": (0.0, 1.0)},
        ),
    )
