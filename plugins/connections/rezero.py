"""ReZero (Bachlechner et al., 2020, equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(x: torch.Tensor, branch: Branch, *, alpha: torch.Tensor) -> torch.Tensor:
    """x + α F(x)."""
    return x + alpha * branch(x)


def fused(x: torch.Tensor, branch: Branch, *, alpha: torch.Tensor) -> torch.Tensor:
    """In one pass."""
    return torch.addcmul(x, alpha, branch(x))


def parameters(features: int, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Zero: each layer begins as the identity."""
    return {"alpha": nn.Parameter(torch.zeros(1))}


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """ReZero."""
    yield Connection(
        "rezero",
        forwards={"reference": reference, "torch": fused},
        parameters=parameters,
        metadata=Metadata(
            title="ReZero",
            summary="The branch is scaled by one learned number that begins at zero.",
            formula=r"y = x + \alpha F(x),\quad \alpha_0 = 0",
            strengths=("the network begins as the identity, at any depth", "no norm needed"),
            weaknesses=("the branch gets no gradient at the first step",),
            use_when="Very deep networks without norms.",
            tags=("skip", "learnable", "language", "vision", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="ReZero is All You Need: Fast Convergence at Large Depth",
                authors=(
                    "Thomas Bachlechner",
                    "Bodhisattwa Prasad Majumder",
                    "Huanru Henry Mao",
                    "Garrison W. Cottrell",
                    "Julian McAuley",
                ),
                year=2020,
                url="https://arxiv.org/abs/2003.04887",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": True},
        ),
    )
