"""Squared ReLU (So et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """max(0, x)²; a NaN stays one."""
    return torch.where(x <= 0, torch.zeros_like(x), x * x)


def fused(x: torch.Tensor) -> torch.Tensor:
    """The square of torch's ReLU."""
    return torch.relu(x).square()


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Squared ReLU."""
    yield Activation(
        "squared_relu",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Squared ReLU",
            summary="ReLU, squared.",
            formula=r"\phi(x) = \max(0, x)^2",
            strengths=(
                "better than GELU in the language models of its paper",
                "sparse, and its slope is continuous",
            ),
            weaknesses=("grows with the square: low precision overflows sooner", "units can die"),
            use_when="Feed-forward blocks of language models.",
            tags=("rectifier", "hidden_layer", "language"),
            paper=Paper(
                title="Primer: Searching for Efficient Transformers for Language Modeling",
                authors=(
                    "David R. So",
                    "Wojciech Mańke",
                    "Hanxiao Liu",
                    "Zihang Dai",
                    "Noam Shazeer",
                    "Quoc V. Le",
                ),
                year=2021,
                url="https://arxiv.org/abs/2109.08668",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (0.0, float("inf")),
                "zero_centred": False,
            },
        ),
    )
