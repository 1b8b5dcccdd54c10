"""Hard tanh (Collobert, 2004)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Identity, Metadata, Paper, hookimpl


def reference(x: torch.Tensor, *, min_value: float, max_value: float) -> torch.Tensor:
    """min(max(x, min_value), max_value)."""
    low, high = (torch.full_like(x, value) for value in (min_value, max_value))
    return torch.where(x <= low, low, torch.where(x >= high, high, x))


def fused(x: torch.Tensor, *, min_value: float, max_value: float) -> torch.Tensor:
    """torch's kernel."""
    return F.hardtanh(x, min_value, max_value)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Hard tanh."""
    yield Activation(
        "hardtanh",
        forwards={"reference": reference, "torch": fused},
        options={"min_value": -1.0, "max_value": 1.0},
        identities=(
            Identity(
                "from 0 to 6",
                options=lambda features: {"min_value": 0.0, "max_value": 6.0},
                equals="relu6",
            ),
        ),
        metadata=Metadata(
            title="Hard tanh",
            summary="The input, cut off at both ends.",
            formula=r"\phi(x) = \min(\max(x, a), b)",
            strengths=("as cheap as ReLU", "bounded"),
            weaknesses=("no gradient at all beyond the ends", "not smooth"),
            use_when="Quantised and hardware-near networks.",
            tags=("saturating", "hidden_layer", "mobile"),
            paper=Paper(
                title="Large Scale Machine Learning",
                authors=("Ronan Collobert",),
                year=2004,
                url="https://ronan.collobert.com/pub/matos/2004_phdthesis_lip6.pdf",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (-1.0, 1.0),
                "zero_centred": True,
            },
        ),
    )
