"""Multi-query attention (Shazeer, 2019, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bakeoff import (
    Attention,
    Case,
    Forward,
    Metadata,
    Paper,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import grouped_attention
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, 1, Nk, D)
    v: torch.Tensor,  # (B, 1, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q_h kᵀ / √D) v: one head of keys and values for all query heads."""
    q, k, v = map(pack_rows, (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = torch.einsum("bhid,bjd->bhij", q, k.squeeze(1)) * scale
    weights = masked_softmax(scores, allowed_keys(q, k, mask, causal))
    return torch.einsum("bhij,bjd->bhid", weights, v.squeeze(1))


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention over keys and values that are never repeated."""
    return grouped_attention(q, k, v, mask, causal, scale)


def supports(case: Case) -> str | None:
    """One head of keys and values is what makes it multi-query; several are grouped_query."""
    kv_heads = case.attention_shape.kv_heads
    if kv_heads == 1:
        return None
    return f"all heads share one head of keys and values, and there are {kv_heads}"


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Multi-query attention."""
    yield Attention(
        "multi_query",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "sdpa": Forward(
                sdpa, supports=supports, complexity="N^2", memory="N", flops=pair_flops
            ),
        },
        grouped=True,
        metadata=Metadata(
            title="Multi-query attention",
            summary="All query heads share one head of keys and values.",
            formula=r"o_i^h = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i^h \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=(
                "a KV cache smaller by the number of heads",
                "fast decoding: far fewer bytes are read for each token",
            ),
            weaknesses=(
                "some quality lost against separate key heads",
                "as many FLOPs as with separate key heads",
            ),
            use_when="The KV cache is what limits the batch or the speed of decoding.",
            tags=(
                "dot_product",
                "soft",
                "multi_head",
                "self",
                "cross",
                "global",
                "efficient",
                "language",
                "long_context",
            ),
            section="scoring",
            paper=Paper(
                title="Fast Transformer Decoding: One Write-Head is All You Need",
                authors=("Noam Shazeer",),
                year=2019,
                url="https://arxiv.org/abs/1911.02150",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
            aliases=("mqa",),
        ),
    )
