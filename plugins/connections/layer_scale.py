"""LayerScale (Touvron et al., 2021, section 2, equation 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(
    x: torch.Tensor, branch: Branch, *, gamma: torch.Tensor, initial: float
) -> torch.Tensor:
    """x + diag(γ) F(x)."""
    return x + gamma * branch(x)


def fused(x: torch.Tensor, branch: Branch, *, gamma: torch.Tensor, initial: float) -> torch.Tensor:
    """In one pass."""
    return torch.addcmul(x, gamma, branch(x))


def parameters(
    features: int, generator: torch.Generator | None, initial: float
) -> Mapping[str, torch.Tensor]:
    """Small, as the paper has it: 0.1 up to 18 layers, 1e-5 at 24, 1e-6 beyond."""
    return {"gamma": nn.Parameter(torch.full((features,), initial))}


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """LayerScale."""
    yield Connection(
        "layer_scale",
        forwards={"reference": reference, "torch": fused},
        options={"initial": 1e-5},
        parameters=parameters,
        metadata=Metadata(
            title="LayerScale",
            summary="Each feature of the branch is scaled by a learned number that begins small.",
            formula=r"y = x + \operatorname{diag}(\gamma) F(x)",
            strengths=("deep vision transformers converge", "features find their own rate"),
            weaknesses=("one more size to choose, by depth",),
            use_when="Vision transformers of more than a dozen layers, with pre-norm.",
            tags=("skip", "learnable", "vision", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="Going deeper with Image Transformers",
                authors=(
                    "Hugo Touvron",
                    "Matthieu Cord",
                    "Alexandre Sablayrolles",
                    "Gabriel Synnaeve",
                    "Hervé Jégou",
                ),
                year=2021,
                url="https://arxiv.org/abs/2103.17239",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": True},
        ),
    )
