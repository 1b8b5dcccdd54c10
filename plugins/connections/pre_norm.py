"""Pre-norm residual connection (Xiong et al., 2020, figure 1b)."""

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
    """x + F(weight · (x − mean) / √(variance + eps) + bias)."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return x + branch(weight * centred / torch.sqrt(variance + eps) + bias)


def fused(
    x: torch.Tensor, branch: Branch, *, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """With torch's layer norm."""
    return x + branch(F.layer_norm(x, x.shape[-1:], weight, bias, eps))


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
    """Pre-norm residual connection."""
    yield Connection(
        "pre_norm",
        forwards={"reference": reference, "torch": fused},
        options={"eps": 1e-5},
        parameters=parameters,
        metadata=Metadata(
            title="Pre-norm residual connection",
            summary="The branch sees the input normalised; the skip path carries it untouched.",
            formula=r"y = x + F(\operatorname{LayerNorm}(x))",
            strengths=("trains without warm-up, also when deep", "the skip path is an identity"),
            weaknesses=("activations grow along the skip path", "later layers change less"),
            use_when="Transformers: the default of today's language models.",
            tags=("skip", "norm", "learnable", "language", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="On Layer Normalization in the Transformer Architecture",
                authors=(
                    "Ruibin Xiong",
                    "Yunchang Yang",
                    "Di He",
                    "Kai Zheng",
                    "Shuxin Zheng",
                    "Chen Xing",
                    "Huishuai Zhang",
                    "Yanyan Lan",
                    "Liwei Wang",
                    "Tie-Yan Liu",
                ),
                year=2020,
                url="https://arxiv.org/abs/2002.04745",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": True},
        ),
    )
