"""Attention with linear biases (Press et al., 2022, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch.utils.checkpoint import checkpoint

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
from bakeoff.plugins.attention._blocks import allowed_in_block, query_blocks
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    log_slopes: torch.Tensor,  # (H,), log2 m
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q kᵀ / √D − m |i − j|) v, one slope m a head; aligned at the lower right.

    The paper has i ≥ j only; to both sides it is what the authors recommend for encoders. Slopes
    come as logarithms, which half precision holds exactly; distances it would not hold.
    """
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v, log_slopes = wide(q, k, v, log_slopes)
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    distance = (i - torch.arange(k_len, device=q.device)).abs()  # (Nq, Nk)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale - 2 ** log_slopes[:, None, None] * distance
    return (masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v).to(dtype)


def toeplitz(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    log_slopes: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention with a bias of O(N) numbers, read through overlapping views.

    The bias depends on j − i alone. With the queries in reverse order, row r of it begins at place
    r of one table: a view with strides of one in both directions, which the kernel reads as a
    matrix. What is not yet to be seen is −∞ in the table. A mask has no such form: with one, each
    block's bias is written out, and again in the backward.
    """
    q_len, k_len = q.shape[2], k.shape[2]
    distance = torch.arange(k_len - 1, -q_len, -1, device=q.device)  # i − j, by place
    slopes = log_slopes.to(torch.promote_types(q.dtype, torch.float32)).exp2()
    table = slopes[:, None] * -distance.abs()  # (H, Nq + Nk − 1)
    if causal:
        table = table.masked_fill(distance < 0, -torch.inf)
    bias = table.unfold(1, k_len, 1)  # (H, Nq, Nk), rows in reverse order

    def attend(rows: slice, keys: slice) -> torch.Tensor:
        own = bias[None, :, q_len - rows.stop : q_len - rows.start, keys]
        if mask is not None:
            allowed = allowed_in_block(rows, keys, q, k, mask, causal=False)
            assert allowed is not None
            allowed = allowed.flip(-2) if allowed.dim() > 1 else allowed
            own = own.masked_fill(~allowed, -torch.inf)
        turned = q[:, :, rows].flip(2)
        return fused_attention(turned, k[:, :, keys], v[:, :, keys], own, False, scale).flip(2)

    if mask is None and not causal:
        return attend(slice(0, q_len), slice(0, k_len))
    blocks = query_blocks(q, k, causal)
    if mask is None:  # blocks only to leave out the keys that none of their queries may see
        return torch.cat([attend(*block) for block in blocks], 2)
    written = (
        checkpoint(attend, *block, use_reentrant=False, preserve_rng_state=False)
        for block in blocks
    )
    return torch.cat(list(written), 2)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """2^(−8/H), 2^(−16/H), …, not learned; H between powers of two takes every other of the next.

    As in the authors' code: for H = 12 those of 8 heads, then the odd ones of 16. The buffer holds
    the exponents, which any dtype holds exactly up to 128 heads.
    """
    lower = 2 ** int(math.log2(shape.heads))
    exponents = [8 * (h + 1) / lower for h in range(lower)]
    exponents += [8 * (h + 1) / (2 * lower) for h in range(0, 2 * (shape.heads - lower), 2)]
    return {"log_slopes": -torch.tensor(exponents)}


def supports(case: Case) -> str | None:
    """Kernels on other devices copy a bias with such strides, to N² numbers."""
    return None if case.device == "cpu" else "only the CPU's kernel reads the bias in place"


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Attention with linear biases."""
    yield Attention(
        "alibi",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "toeplitz": Forward(
                toeplitz, supports=supports, complexity="N^2", memory="N", flops=pair_flops
            ),
        },
        parameters=parameters,
        identities=(
            Identity(
                "slopes = 0",
                tensors=lambda shape: {"log_slopes": torch.full((shape.heads,), -torch.inf)},
                equals="scaled_dot_product",
            ),
        ),
        metadata=Metadata(
            title="Attention with linear biases (ALiBi)",
            summary="Scores fall off with the distance, in each head at a fixed rate of its own.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}} - m_h |i - j|\right) v_j",
            strengths=(
                "works beyond the lengths of training",
                "no parameter and no position embedding",
            ),
            weaknesses=("what is far is hard to reach, whatever it says", "needs a bias kernel"),
            use_when="A language model is trained on short sequences and run on longer ones.",
            tags=("dot_product", "soft", "self", "cross", "positional", "language", "long_context"),
            section="beyond the textbook",
            paper=Paper(
                title="Train Short, Test Long: Attention with Linear Biases Enables Input Length "
                "Extrapolation",
                authors=("Ofir Press", "Noah A. Smith", "Mike Lewis"),
                year=2021,
                url="https://arxiv.org/abs/2108.12409",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
        ),
    )
