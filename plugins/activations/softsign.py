"""Softsign (Turian et al., 2009)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + |x|), the two sides apart."""
    up, down = x.clamp(min=0), x.clamp(max=0)
    return torch.where(x > 0, up / (1 + up), down / (1 - down))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's composition."""
    return F.softsign(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Softsign."""
    yield Activation(
        "softsign",
        forwards={"reference": reference, "torch": fused},
        metadata=Metadata(
            title="Softsign",
            summary="Squashes into (−1, 1) like tanh, with polynomial tails.",
            formula=r"\phi(x) = \frac{x}{1 + |x|}",
            strengths=("no exponential", "saturates later than tanh"),
            weaknesses=("its gradient still vanishes with depth",),
            use_when="Where tanh saturates too early.",
            tags=("saturating", "hidden_layer"),
            paper=Paper(
                title="Quadratic Features and Deep Architectures for Chunking",
                authors=("Joseph Turian", "James Bergstra", "Yoshua Bengio"),
                year=2009,
                url="https://aclanthology.org/N09-2062/",
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
