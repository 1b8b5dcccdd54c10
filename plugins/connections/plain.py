"""Plain (no skip) (the plain networks of He et al., 2016, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(x: torch.Tensor, branch: Branch) -> torch.Tensor:
    """F(x)."""
    return branch(x)


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """Plain (no skip)."""
    yield Connection(
        "plain",
        forwards={"reference": reference},
        metadata=Metadata(
            title="Plain (no skip)",
            summary="The branch alone: what a skip connection is compared with.",
            formula=r"y = F(x)",
            strengths=("no addition, nothing to keep for it",),
            weaknesses=(
                "the gradient shrinks or grows with every layer",
                "deeper networks train worse",
            ),
            use_when="Shallow networks; a control beside any skip connection.",
            tags=("vision",),
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
                "identity_path": False,
            },
            control=True,
        ),
    )
