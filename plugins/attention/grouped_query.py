"""Grouped-query attention (Ainslie et al., 2023, section 2.2)."""

from __future__ import annotations

import math
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
from bakeoff.plugins.attention._fused import grouped_attention
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, Hkv, Nk, D)
    v: torch.Tensor,  # (B, Hkv, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q_h k_gᵀ / √D) v_g, where head h belongs to the group g = ⌊h · Hkv / H⌋."""
    q, k, v = map(pack_rows, (q, k, v))
    heads, groups = q.shape[1], k.shape[1]
    group = torch.arange(heads, device=q.device) * groups // heads
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k[:, group].mT * scale  # (B, H, Nq, Nk)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v[:, group]


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


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Grouped-query attention."""
    yield Attention(
        "grouped_query",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=pair_flops),
        },
        grouped=True,
        metadata=Metadata(
            title="Grouped-query attention",
            summary="Query heads in groups, each of which shares one head of keys and values.",
            formula=r"o_i^h = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i^h \cdot k_j^g}{\sqrt{D}}\right) v_j^g,\quad "
            r"g = \lfloor h\, H_{kv} / H \rfloor",
            strengths=(
                "a KV cache smaller by the size of a group",
                "near the quality of as many key heads as query heads",
            ),
            weaknesses=("as many FLOPs as with all key heads", "heads of a group see one memory"),
            use_when="Decoding is bound by reading the KV cache, as in large language models.",
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
                title="GQA: Training Generalized Multi-Query Transformer Models from Multi-Head "
                "Checkpoints",
                authors=(
                    "Joshua Ainslie",
                    "James Lee-Thorp",
                    "Michiel de Jong",
                    "Yury Zemlyanskiy",
                    "Federico Lebrón",
                    "Sumit Sanghai",
                ),
                year=2023,
                url="https://arxiv.org/abs/2305.13245",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
            aliases=("gqa",),
        ),
    )
