"""DeepNorm (Wang et al., 2022, section 2 and figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(
    x: torch.Tensor,
    branch: Branch,
    *,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    depth: int = 1,
) -> torch.Tensor:
    """LayerNorm(α x + F(x)) with α = depth^(1/4).

    ``depth`` counts connections: the 2 N sublayers of the paper's N layers, whose α is (2 N)^(1/4).
    The other constant, β = (4 · depth)^(−1/4), is a gain on the branch's weights when they are
    drawn (figure 2), and no part of the connection.
    """
    alpha: float = depth**0.25
    total = alpha * x + branch(x)
    centred = total - total.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return weight * centred / torch.sqrt(variance + eps) + bias


def fused(
    x: torch.Tensor,
    branch: Branch,
    *,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    depth: int = 1,
) -> torch.Tensor:
    """With torch's layer norm, and one pass for scaling and sum."""
    alpha: float = depth**0.25
    total = torch.add(branch(x), x, alpha=alpha)
    return F.layer_norm(total, x.shape[-1:], weight, bias, eps)


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
    """DeepNorm."""
    yield Connection(
        "deepnorm",
        forwards={"reference": reference, "torch": fused},
        options={"eps": 1e-5},
        parameters=parameters,
        metadata=Metadata(
            title="DeepNorm",
            summary="Post-norm with the skip path enlarged, the more the deeper the network.",
            formula=r"y = \operatorname{LayerNorm}(\alpha x + F(x)),\quad \alpha = (2N)^{1/4}",
            strengths=("post-norm that trains at a thousand layers", "updates stay bounded"),
            weaknesses=("the branch's weights must be drawn smaller, too", "depth must be known"),
            use_when="Very deep transformers that want the quality of post-norm.",
            tags=("skip", "norm", "learnable", "language", "translation", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="DeepNet: Scaling Transformers to 1,000 Layers",
                authors=(
                    "Hongyu Wang",
                    "Shuming Ma",
                    "Li Dong",
                    "Shaohan Huang",
                    "Dongdong Zhang",
                    "Furu Wei",
                ),
                year=2022,
                url="https://arxiv.org/abs/2203.00555",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": False},
        ),
    )
