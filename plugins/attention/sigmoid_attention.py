"""Sigmoid attention (Ramapuram et al., 2024, section 2, equation 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from bakeoff import Attention, Forward, Metadata, Paper, allowed_keys, hookimpl
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._tiles import Tiling


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


def tiled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A tile of weights at a time, forward and backward; half precision in float32."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    tensors = [t.to(wide).flatten(0, 1) for t in (q * scale, k, v)]
    tiling = Tiling.of(q, k, causal)
    output: torch.Tensor = _Tiled.apply(tiling, mask, *tensors)  # type: ignore[no-untyped-call]
    return output.view(*q.shape[:3], -1).to(q.dtype)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tiling: Tiling,
        mask: torch.Tensor | None,
        q: torch.Tensor,  # (B·H, Nq, D), scaled
        k: torch.Tensor,  # (B·H, Nk, D)
        v: torch.Tensor,  # (B·H, Nk, Dv)
    ) -> torch.Tensor:
        ctx.tiling = tiling
        ctx.save_for_backward(mask, q, k, v)
        output = q.new_zeros(*q.shape[:2], v.shape[2])
        for rows in tiling.blocks():
            for keys in tiling.tiles(rows):
                weights = _weights(tiling, rows, keys, mask, q, k)
                output[:, rows].baddbmm_(weights, v[:, keys])
        return output

    @staticmethod
    def backward(ctx: Any, *into: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mask, q, k, v = ctx.saved_tensors
        into_q, into_k, into_v = map(torch.zeros_like, (q, k, v))
        for rows in ctx.tiling.blocks():
            into_rows = into[0][:, rows]
            for keys in ctx.tiling.tiles(rows):
                weights = _weights(ctx.tiling, rows, keys, mask, q, k)
                into_v[:, keys].baddbmm_(weights.mT, into_rows)
                into_weights = torch.bmm(into_rows, v[:, keys].mT)
                # σ′ = σ (1 − σ), which is zero where σ was set to zero.
                into_scores = into_weights.mul_(weights).mul_(1 - weights)
                into_q[:, rows].baddbmm_(into_scores, k[:, keys])
                into_k[:, keys].baddbmm_(into_scores.mT, q[:, rows])
        return None, None, into_q, into_k, into_v


def _weights(
    tiling: Tiling,
    rows: slice,
    keys: slice,
    mask: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
) -> torch.Tensor:
    weights = torch.bmm(q[:, rows], k[:, keys].mT).sub_(math.log(tiling.k_len)).sigmoid_()
    allowed = tiling.allowed(rows, keys, mask)
    return weights if allowed is None else weights.masked_fill_(~allowed, 0.0)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Sigmoid attention."""
    yield Attention(
        "sigmoid_attention",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "tiled": Forward(tiled, complexity="N^2", memory="N", flops=pair_flops),
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
