"""General (bilinear) attention (Luong et al., 2015, section 3.1, the score ``general``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from bakeoff import (
    Attention,
    Case,
    Forward,
    Identity,
    Metadata,
    Paper,
    Shape,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.registry.layout import pack_gradient, pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    weight: torch.Tensor,  # (D, D)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q W kᵀ) v; a scale, where one is given, multiplies the scores."""
    q, k, v, weight = map(pack_rows, (q, k, v, weight))
    scores = torch.einsum("bhid,de,bhje->bhij", q, weight, k) * (1.0 if scale is None else scale)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def sdpa(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    weight: torch.Tensor,  # (D, D)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The queries projected once, then torch's fused attention."""
    q = pack_gradient(pack_rows(q) @ pack_rows(weight))
    return fused_attention(q, k, v, mask, causal, 1.0 if scale is None else scale)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Normal with variance 1/D, shared by the heads."""
    weight = torch.randn(shape.head_dim, shape.head_dim, generator=generator)
    return {"weight": nn.Parameter(weight / math.sqrt(shape.head_dim))}


def flops(case: Case) -> float:
    """The queries times W, and the two products of attention."""
    shape = case.attention_shape
    return 2.0 * shape.batch * shape.heads * shape.q_len * shape.head_dim**2 + pair_flops(case)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """General attention."""
    yield Attention(
        "general",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=flops),
        },
        parameters=parameters,
        identities=(
            Identity(
                "weight = identity",
                tensors=lambda shape: {"weight": torch.eye(shape.head_dim)},
                equals="dot_product",
            ),
        ),
        metadata=Metadata(
            title="General (bilinear) attention",
            summary="A softmax over bilinear scores with a learned matrix between query and key.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j(q_i^\top W k_j)\, v_j",
            strengths=("learns what about query and key should match", "one more product"),
            weaknesses=("D² parameters", "FLOPs grow with the square of the length"),
            use_when="Queries and keys come from different spaces, as decoder and encoder states.",
            tags=("bilinear", "soft", "learnable", "self", "cross", "global", "translation"),
            section="scoring",
            paper=Paper(
                title="Effective Approaches to Attention-based Neural Machine Translation",
                authors=("Minh-Thang Luong", "Hieu Pham", "Christopher D. Manning"),
                year=2015,
                url="https://arxiv.org/abs/1508.04025",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
