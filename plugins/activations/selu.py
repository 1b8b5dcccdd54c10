"""SELU (Klambauer et al., 2017, equation 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl

# Section 2 of the paper and its appendix: the fixed point (mean 0, variance 1).
ALPHA = 1.6732632423543772
SCALE = 1.0507009873554805


def reference(x: torch.Tensor) -> torch.Tensor:
    """λ x above zero, λ α (eˣ − 1) below it."""
    return SCALE * torch.where(x > 0, x, ALPHA * torch.expm1(x.clamp(max=0)))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.selu(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """SELU."""
    yield Activation(
        "selu",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="SELU",
            summary="ELU with constants that keep mean 0 and variance 1 from layer to layer.",
            formula=r"\phi(x) = \lambda x \text{ for } x > 0,\quad \lambda\alpha (e^x - 1)"
            r" \text{ otherwise}",
            strengths=(
                "keeps activations normalised without normalisation layers",
                "units do not die",
            ),
            weaknesses=("only with LeCun initialisation and alpha dropout", "a kink at zero"),
            use_when="Deep MLPs on tables, without normalisation layers.",
            tags=("hidden_layer", "very_deep"),
            paper=Paper(
                title="Self-Normalizing Neural Networks",
                authors=(
                    "Günter Klambauer",
                    "Thomas Unterthiner",
                    "Andreas Mayr",
                    "Sepp Hochreiter",
                ),
                year=2017,
                url="https://arxiv.org/abs/1706.02515",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (-1.7580993408473766, float("inf")),
                "zero_centred": True,
            },
        ),
    )
