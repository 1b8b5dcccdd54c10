"""Residual connection (He et al., 2016, equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(x: torch.Tensor, branch: Branch) -> torch.Tensor:
    """x + F(x)."""
    return x + branch(x)


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """Residual connection."""
    yield Connection(
        "residual",
        forwards={"reference": reference},
        metadata=Metadata(
            title="Residual connection",
            summary="The input is added to what the branch makes of it.",
            formula=r"y = x + F(x)",
            strengths=(
                "the gradient reaches every layer undiminished",
                "a superfluous branch can become zero",
            ),
            weaknesses=(
                "input and output must have one size",
                "variance grows with depth unless normalised",
            ),
            use_when="Any network of more than a few layers: the default.",
            tags=("skip", "vision", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="Deep Residual Learning for Image Recognition",
                authors=("Kaiming He", "Xiangyu Zhang", "Shaoqing Ren", "Jian Sun"),
                year=2016,
                url="https://arxiv.org/abs/1512.03385",
            ),
            properties={
                "stochastic": False,
                "differentiable": True,
                "identity_path": True,
            },
        ),
    )
