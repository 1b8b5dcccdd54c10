"""Sigmoid attention (Ramapuram et al., 2024, section 2, equation 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bakeoff import Attention, Forward, Metadata, Paper, allowed_keys, hookimpl
from bakeoff.plugins.attention._blocks import by_query_blocks
from bakeoff.plugins.attention._costs import pair_flops


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """σ(q kᵀ / √D + b) v with b = −log Nk, so that the weights begin near those of a softmax."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    weights = torch.sigmoid(q @ k.mT * scale - math.log(k.shape[-2]))  # (B, H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0.0)
    return weights @ v


def blocked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The same, a block of queries at a time; scale and bias go into the product."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    bias = q.new_full((), -math.log(k.shape[2]))

    def attend(rows: slice, keys: slice, allowed: torch.Tensor | None) -> torch.Tensor:
        query, key, value = (t.flatten(0, 1) for t in (q[:, :, rows], k[:, :, keys], v[:, :, keys]))
        scores = torch.baddbmm(bias, query, key.mT, alpha=scale)
        weights = torch.sigmoid(scores).view(*q.shape[:2], *scores.shape[1:])
        if allowed is not None:
            weights = weights.masked_fill(~allowed, 0.0)
        return (weights.flatten(0, 1) @ value).view(*q.shape[:2], -1, v.shape[3])

    return by_query_blocks(attend, q, k, mask, causal)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Sigmoid attention."""
    yield Attention(
        "sigmoid_attention",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "blocked": Forward(blocked, complexity="N^2", memory="N", flops=pair_flops),
        },
        metadata=Metadata(
            title="Sigmoid attention",
            summary="Each pair is weighted by a sigmoid of its own: keys do not compete.",
            formula=r"o_i = \sum_j \sigma\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}} - \log N_k\right) v_j",
            strengths=(
                "no sum over a row: simpler and faster kernels",
                "a query may attend to many keys, or to none",
            ),
            weaknesses=(
                "the bias depends on the length",
                "needs care early in training, when outputs are large",
            ),
            use_when="Training from scratch where the row sums of a softmax slow attention down.",
            tags=("dot_product", "soft", "self", "cross", "global", "language", "vision"),
            section="beyond the textbook",
            paper=Paper(
                title="Theory, Analysis, and Best Practices for Sigmoid Self-Attention",
                authors=(
                    "Jason Ramapuram",
                    "Federico Danieli",
                    "Eeshan Dhekane",
                    "Floris Weers",
                    "Dan Busbridge",
                    "Pierre Ablin",
                    "Tatiana Likhomanenko",
                    "Jagrit Digani",
                    "Zijin Gu",
                    "Amitis Shidani",
                    "Russ Webb",
                ),
                year=2024,
                url="https://arxiv.org/abs/2409.04431",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
