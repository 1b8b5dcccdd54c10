"""Dot-product attention (Luong et al., 2015, section 3.1, the score ``dot``)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import (
    Attention,
    Forward,
    Metadata,
    Paper,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q kᵀ) v; a scale, where one is given, multiplies the scores."""
    q, k, v = map(pack_rows, (q, k, v))
    scores = q @ k.mT * (1.0 if scale is None else scale)  # (B, H, Nq, Nk)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def sdpa(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention, without its scale."""
    return fused_attention(q, k, v, mask, causal, 1.0 if scale is None else scale)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Dot-product attention."""
    yield Attention(
        "dot_product",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=pair_flops),
        },
        metadata=Metadata(
            title="Dot-product attention",
            summary="A softmax over the products of query and keys, as they are.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j(q_i \cdot k_j)\, v_j",
            strengths=("no parameters", "one matrix product"),
            weaknesses=(
                "the scores grow with D, and softmax saturates",
                "FLOPs grow with the square of the length",
            ),
            use_when="Queries and keys are small or normalised; else take the scaled form.",
            tags=("dot_product", "soft", "self", "cross", "global", "translation"),
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
