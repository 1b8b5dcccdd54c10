"""Sigmoid attention (Ramapuram et al., 2024, section 2, equation 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from bakeoff import Attention, Case, Forward, Metadata, Paper, allowed_keys, hookimpl
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._tiles import Tiling


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    length: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """σ(q kᵀ / √D + b) v with b = −log n, so that the weights begin near those of a softmax.

    n is ``length``, or where that is 0 the number of keys, as in the paper. The bias is larger than
    most scores: they are added in float32 at least.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).mT * scale  # (B, H, Nq, Nk)
    weights = torch.sigmoid(scores - math.log(length or max(1, k.shape[-2])))
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0.0)
    return (weights @ v.to(wide)).to(q.dtype)


def tiled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    length: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A tile of weights at a time, forward and backward; half precision in float32."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    tensors = [t.to(wide).flatten(0, 1) for t in (q * scale, k, v)]
    tiling, bias = Tiling.of(q, k, causal), -math.log(length or max(1, k.shape[2]))
    output: torch.Tensor = _Tiled.apply(tiling, mask, bias, *tensors)  # type: ignore[no-untyped-call]
    return output.view(*q.shape[:3], v.shape[3]).to(q.dtype)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tiling: Tiling,
        mask: torch.Tensor | None,
        bias: float,
        q: torch.Tensor,  # (B·H, Nq, D), scaled
        k: torch.Tensor,  # (B·H, Nk, D)
        v: torch.Tensor,  # (B·H, Nk, Dv)
    ) -> torch.Tensor:
        ctx.tiling, ctx.bias = tiling, bias
        ctx.save_for_backward(mask, q, k, v)
        output = q.new_zeros(*q.shape[:2], v.shape[2])
        for rows in tiling.blocks():
            for keys in tiling.tiles(rows):
                weights = _weights(ctx, rows, keys, mask, q, k)
                output[:, rows].baddbmm_(weights, v[:, keys])
        return output

    @staticmethod
    def backward(ctx: Any, *into: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mask, q, k, v = ctx.saved_tensors
        into_q, into_k, into_v = map(torch.zeros_like, (q, k, v))
        for rows in ctx.tiling.blocks():
            into_rows = into[0][:, rows]
            for keys in ctx.tiling.tiles(rows):
                weights = _weights(ctx, rows, keys, mask, q, k)
                into_v[:, keys].baddbmm_(weights.mT, into_rows)
                into_weights = torch.bmm(into_rows, v[:, keys].mT)
                # σ′ = σ (1 − σ), which is zero where σ was set to zero.
                into_scores = into_weights.mul_(weights).mul_(1 - weights)
                into_q[:, rows].baddbmm_(into_scores, k[:, keys])
                into_k[:, keys].baddbmm_(into_scores.mT, q[:, rows])
        return None, None, None, into_q, into_k, into_v


def _weights(
    ctx: Any,
    rows: slice,
    keys: slice,
    mask: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
) -> torch.Tensor:
    weights = torch.bmm(q[:, rows], k[:, keys].mT).add_(ctx.bias).sigmoid_()
    allowed = ctx.tiling.allowed(rows, keys, mask)
    # Not in place: a second derivative looks at what the sigmoid was.
    return weights if allowed is None else weights.masked_fill(~allowed, 0.0)


def supports(case: Case) -> str | None:
    """A length counts keys."""
    return None if int(case.options["length"]) >= 0 else "length must not be negative"


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Sigmoid attention."""
    yield Attention(
        "sigmoid_attention",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "tiled": Forward(
                tiled, supports=supports, complexity="N^2", memory="N", flops=pair_flops
            ),
        },
        options={"length": 0},
        metadata=Metadata(
            title="Sigmoid attention",
            summary="Each pair is weighted by a sigmoid of its own: keys do not compete.",
            formula=r"o_i = \sum_j \sigma\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}} - \log n\right) v_j,\quad n = N_k",
            strengths=(
                "no sum over a row: simpler and faster kernels",
                "a query may attend to many keys, or to none",
            ),
            weaknesses=(
                "with length 0 the bias depends on the number of keys: padding counts, and a step "
                "of decoding is not a row of the causal pass; a fixed length mends both",
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
