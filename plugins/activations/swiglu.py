"""SwiGLU (Shazeer, 2020, equation 5)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """value · SiLU(gate); as in glu the second half is the gate."""
    value, gate = x.chunk(2, -1)
    return value * gate * 0.5 * (1 + torch.tanh(gate / 2))


def fused(x: torch.Tensor) -> torch.Tensor:
    """Through torch's SiLU."""
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """SwiGLU."""
    yield Activation(
        "swiglu",
        forwards={"reference": reference, "torch": fused},
        gated=True,
        metadata=Metadata(
            title="SwiGLU",
            summary="GLU with SiLU for its gate.",
            formula=r"\phi([a, b]) = a \odot \operatorname{SiLU}(b)",
            strengths=("among the best of its paper", "the standard of large language models"),
            weaknesses=("half of the features go into gates",),
            use_when="Feed-forward blocks of large language models.",
            tags=("gated", "hidden_layer", "language"),
            paper=Paper(
                title="GLU Variants Improve Transformer",
                authors=("Noam Shazeer",),
                year=2020,
                url="https://arxiv.org/abs/2002.05202",
            ),
            properties={"elementwise": False, "range": (-float("inf"), float("inf"))},
        ),
    )
