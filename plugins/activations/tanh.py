"""Tanh (LeCun et al., 1998, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """(eˣ − e⁻ˣ) / (eˣ + e⁻ˣ), of e⁻²ˣ − 1 above zero and e²ˣ − 1 below it.

    So nothing overflows, and for small x nothing cancels.
    """
    up, down = torch.expm1(-2 * x.clamp(min=0)), torch.expm1(2 * x.clamp(max=0))
    return torch.where(x > 0, -up / (2 + up), down / (2 + down))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return torch.tanh(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Tanh."""
    yield Activation(
        "tanh",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Tanh",
            summary="Squashes the input into (−1, 1), odd about zero.",
            formula=r"\tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}",
            strengths=("zero-centred", "smooth and bounded"),
            weaknesses=("saturates, so gradients still vanish with depth", "needs an exponential"),
            use_when="Recurrent networks, and hidden layers that must stay bounded.",
            tags=("saturating", "hidden_layer"),
            paper=Paper(
                title="Efficient BackProp",
                authors=("Yann LeCun", "Léon Bottou", "Genevieve B. Orr", "Klaus-Robert Müller"),
                year=1998,
                url="http://yann.lecun.com/exdb/publis/pdf/lecun-98b.pdf",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (-1.0, 1.0),
                "zero_centred": True,
            },
        ),
    )
