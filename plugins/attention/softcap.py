"""Attention with capped scores (Gemma Team, 2024, section 2, "Logit soft-capping")."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bakeoff import (
    Attention,
    Forward,
    Identity,
    Metadata,
    Paper,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._tiles import tiled_attention
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    cap: float,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(cap · tanh(s / cap)) v with s = q kᵀ / √D."""
    q, k, v = map(pack_rows, (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = cap * torch.tanh(q @ k.mT * scale / cap)  # (B, H, Nq, Nk)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def tiled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cap: float,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A tile of scores at a time, forward and backward; torch's fused attention knows no cap."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return tiled_attention(q, k, v, mask, causal, scale, cap=cap)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Soft-capped attention."""
    yield Attention(
        "softcap",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "tiled": Forward(tiled, complexity="N^2", memory="N", flops=pair_flops),
        },
        options={"cap": 50.0},
        identities=(
            Identity(
                "cap = infinity",
                options=lambda shape: {"cap": 1e9},
                equals="scaled_dot_product",
                unless=lambda shape: {"cap": 1.0},
            ),
        ),
        metadata=Metadata(
            title="Soft-capped attention",
            summary="Dot-product attention whose scores a tanh keeps within a fixed cap.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left(c \tanh\!\left("
            r"\frac{q_i \cdot k_j}{c \sqrt{D}}\right)\right) v_j",
            strengths=(
                "scores can't grow without bound, which steadies the training of large models",
                "no parameter",
            ),
            weaknesses=("a tanh for every pair", "torch's fused attention can't do it"),
            use_when="Attention scores drift upwards in training and low precision suffers.",
            tags=("dot_product", "soft", "self", "cross", "global", "saturating", "language"),
            section="beyond the textbook",
            paper=Paper(
                title="Gemma 2: Improving Open Language Models at a Practical Size",
                authors=("Gemma Team",),
                year=2024,
                url="https://arxiv.org/abs/2408.00118",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
