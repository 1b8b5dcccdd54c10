"""Post-norm residual connection (Vaswani et al., 2017, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(
    x: torch.Tensor, branch: Branch, *, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """LayerNorm(x + F(x)), with LayerNorm(z) = weight · (z − mean) / √(variance + eps) + bias."""
    total = x + branch(x)
    centred = total - total.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return weight * centred / torch.sqrt(variance + eps) + bias


def fused(
    x: torch.Tensor, branch: Branch, *, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """With torch's layer norm."""
    return F.layer_norm(x + branch(x), x.shape[-1:], weight, bias, eps)


def parameters(
    features: int, generator: torch.Generator | None, eps: float
) -> Mapping[str, torch.Tensor]:
    """Ones and zeros."""
    return {
        "weight": nn.Parameter(torch.ones(features)),
        "bias": nn.Parameter(torch.zeros(features)),
    }


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """Post-norm residual connection."""
    yield Connection(
        "post_norm",
        forwards={"reference": reference, "torch": fused},
        options={"eps": 1e-5},
        parameters=parameters,
        metadata=Metadata(
            title="Post-norm residual connection",
            summary="The sum of input and branch is normalised, skip path and all.",
            formula=r"y = \operatorname{LayerNorm}(x + F(x))",
            strengths=("outputs keep one size at any depth", "every layer counts as much"),
            weaknesses=("no identity path: needs warm-up", "deep stacks diverge"),
            use_when="Transformers of a dozen layers, as the first ones and BERT.",
            tags=("skip", "norm", "learnable", "language", "translation"),
            section="skip connections",
            paper=Paper(
                title="Attention Is All You Need",
                authors=(
                    "Ashish Vaswani",
                    "Noam Shazeer",
                    "Niki Parmar",
                    "Jakob Uszkoreit",
                    "Llion Jones",
                    "Aidan N. Gomez",
                    "Łukasz Kaiser",
                    "Illia Polosukhin",
                ),
                year=2017,
                url="https://arxiv.org/abs/1706.03762",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": False},
        ),
    )
