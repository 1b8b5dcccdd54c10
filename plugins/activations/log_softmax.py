"""Log-softmax (the logarithm of Bridle's softmax, 1990)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x_i − log Σ_j exp(x_j), over the last dimension, shifted by the largest."""
    shifted = x - x.amax(-1, keepdim=True).detach()
    return shifted - torch.exp(shifted).sum(-1, keepdim=True).log()


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.log_softmax(x, -1)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Log-softmax."""
    yield Activation(
        "log_softmax",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Log-softmax",
            summary="The logarithm of softmax, without its underflow.",
            formula=r"\phi(x)_i = x_i - \ln \sum_j e^{x_j}",
            strengths=("exact where softmax underflows", "what the cross-entropy needs"),
            weaknesses=("not a probability itself",),
            use_when="Before a negative log-likelihood.",
            tags=("normalising", "output_layer"),
            paper=Paper(
                title="Probabilistic Interpretation of Feedforward Classification Network "
                "Outputs, with Relationships to Statistical Pattern Recognition",
                authors=("John S. Bridle",),
                year=1990,
                url="https://doi.org/10.1007/978-3-642-76153-9_28",
            ),
            properties={"elementwise": False, "range": (-float("inf"), 0.0)},
        ),
    )
