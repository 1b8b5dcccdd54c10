"""Differential attention (Ye et al., 2024, section 2.1, equations 1 to 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import (
    Attention,
    Case,
    Forward,
    Metadata,
    Paper,
    Shape,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.registry.layout import pack_rows

EPSILON = 1e-5
VECTORS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


def reference(
    q: torch.Tensor,  # (B, H, Nq, D): two queries of D/2 side by side
    k: torch.Tensor,  # (B, H, Nk, D): likewise
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    lambda_q1: torch.Tensor,  # (D/2,)
    lambda_k1: torch.Tensor,  # (D/2,)
    lambda_q2: torch.Tensor,  # (D/2,)
    lambda_k2: torch.Tensor,  # (D/2,)
    gain: torch.Tensor,  # (Dv,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    layer: int = 0,
) -> torch.Tensor:
    """(1 − λ_init) · RMSNorm((softmax(q₁ k₁ᵀ / √(D/2)) − λ softmax(q₂ k₂ᵀ / √(D/2))) v).

    λ = exp(λ_q1 · λ_k1) − exp(λ_q2 · λ_k2) + λ_init, and λ_init grows with the layer.
    """
    q, k, v = map(pack_rows, (q, k, v))
    half = q.shape[-1] // 2
    scale = 1 / math.sqrt(half) if scale is None else scale
    allowed = allowed_keys(q, k, mask, causal)
    first = masked_softmax(q[..., :half] @ k[..., :half].mT * scale, allowed)
    second = masked_softmax(q[..., half:] @ k[..., half:].mT * scale, allowed)
    initial = 0.8 - 0.6 * math.exp(-0.3 * layer)
    weight = torch.exp(lambda_q1 @ lambda_k1) - torch.exp(lambda_q2 @ lambda_k2) + initial
    output = (first - weight * second) @ v
    size = torch.sqrt(output.square().mean(-1, keepdim=True) + EPSILON)
    return (1 - initial) * gain * output / size


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    lambda_q1: torch.Tensor,
    lambda_k1: torch.Tensor,
    lambda_q2: torch.Tensor,
    lambda_k2: torch.Tensor,
    gain: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    layer: int = 0,
) -> torch.Tensor:
    """torch's fused attention twice, its outputs subtracted instead of its weights."""
    (first_q, second_q), (first_k, second_k) = q.chunk(2, -1), k.chunk(2, -1)
    first = fused_attention(first_q, first_k, v, mask, causal, scale)
    second = fused_attention(second_q, second_k, v, mask, causal, scale)
    initial = 0.8 - 0.6 * math.exp(-0.3 * layer)
    weight = (lambda_q1 * lambda_k1).sum().exp() - (lambda_q2 * lambda_k2).sum().exp() + initial
    output = torch.addcmul(first, weight, second, value=-1)
    return F.rms_norm(output, gain.shape, gain * (1 - initial), EPSILON)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """λ's vectors normal with deviation 0.1, as the authors draw them; the norm's gain is 1."""
    half = shape.head_dim // 2
    drawn = {name: nn.Parameter(0.1 * torch.randn(half, generator=generator)) for name in VECTORS}
    return {**drawn, "gain": nn.Parameter(torch.ones(shape.value_dim))}


def supports(case: Case) -> str | None:
    """A head holds two queries."""
    dim = case.attention_shape.head_dim
    return None if dim % 2 == 0 else f"a head is split into two queries, and {dim} is odd"


def flops(case: Case) -> float:
    """Half the features twice, and the values twice: two attentions, and then their difference."""
    shape = case.attention_shape
    products = shape.head_dim + 2 * shape.value_dim
    return 2.0 * shape.batch * shape.heads * case.visible_pairs * products


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Differential attention."""
    yield Attention(
        "differential",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "sdpa": Forward(sdpa, supports=supports, complexity="N^2", memory="N", flops=flops),
        },
        parameters=parameters,
        metadata=Metadata(
            title="Differential attention",
            summary="The difference of two softmax attentions: what both attend to cancels.",
            formula=r"o = (1 - \lambda_{init}) \operatorname{RMSNorm}\!\left(\left("
            r"\operatorname{softmax}\tfrac{Q_1 K_1^\top}{\sqrt{D/2}} - \lambda "
            r"\operatorname{softmax}\tfrac{Q_2 K_2^\top}{\sqrt{D/2}}\right) V\right)",
            strengths=(
                "less attention to what is irrelevant, so better retrieval from long contexts",
                "fewer outlier activations",
            ),
            weaknesses=("two softmaxes over half as many features", "values are weighted twice"),
            use_when="Key facts must be found among much that is irrelevant.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "self",
                "cross",
                "global",
                "norm",
                "language",
                "long_context",
            ),
            section="beyond the textbook",
            paper=Paper(
                title="Differential Transformer",
                authors=(
                    "Tianzhu Ye",
                    "Li Dong",
                    "Yuqing Xia",
                    "Yutao Sun",
                    "Yi Zhu",
                    "Gao Huang",
                    "Furu Wei",
                ),
                year=2024,
                url="https://arxiv.org/abs/2410.05258",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
