"""Scaled dot-product attention (Vaswani et al., 2017, section 3.2.1, equation 1)."""

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
from bakeoff.plugins.attention._flex import flex_attention, flex_refuses
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._tiles import tiled_attention
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
    """softmax(q kᵀ / √D) v."""
    q, k, v = map(pack_rows, (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale  # (B, H, Nq, Nk)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention."""
    return fused_attention(q, k, v, mask, causal, scale)


def tiled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A tile of scores at a time in plain torch, forward and backward: linear memory anywhere."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return tiled_attention(q, k, v, mask, causal, scale)


def flex(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's FlexAttention, compiled: it leaves out the blocks that a mask hides."""
    return flex_attention(q, k, v, mask, causal, scale)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Scaled dot-product attention."""
    yield Attention(
        "scaled_dot_product",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=pair_flops),
            "tiled": Forward(tiled, complexity="N^2", memory="N", flops=pair_flops),
            "flex": Forward(flex, supports=flex_refuses, complexity="N^2", memory="N"),
        },
        metadata=Metadata(
            title="Scaled dot-product attention",
            summary="A softmax over the products of query and keys, divided by the root of D.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=("every pair of positions is one step apart", "fused kernels everywhere"),
            weaknesses=("FLOPs grow with the square of the length", "no sense of order by itself"),
            use_when="The sequence is short enough for the square: the default.",
            tags=("dot_product", "soft", "self", "cross", "global", "language", "vision"),
            section="scoring",
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
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
        ),
    )
