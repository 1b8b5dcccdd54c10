"""Additive attention (Bahdanau et al., 2015, section 3.1 and appendix A.1.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bakeoff import (
    Attention,
    Case,
    Forward,
    Metadata,
    Paper,
    Shape,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._precision import wide

#: Elements of the hidden layer that the blocked forward holds at once: 4 MiB in float32.
BLOCK_ELEMENTS = 2**20


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    w_query: torch.Tensor,  # (D, D)
    w_key: torch.Tensor,  # (D, D)
    bias: torch.Tensor,  # (D,)
    score_weight: torch.Tensor,  # (D,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(wᵀ tanh(W_q q + W_k k + b)) v; a scale, where given, multiplies the scores."""
    dtype = q.dtype
    q, k, v, w_query, w_key, bias, score_weight = wide(q, k, v, w_query, w_key, bias, score_weight)
    hidden = torch.tanh(
        (q @ w_query.mT)[:, :, :, None] + (k @ w_key.mT)[:, :, None] + bias
    )  # (B, H, Nq, Nk, D)
    scores = hidden @ score_weight * (1.0 if scale is None else scale)
    return (masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v).to(dtype)


def blocked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    w_query: torch.Tensor,
    w_key: torch.Tensor,
    bias: torch.Tensor,
    score_weight: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The same, a block of queries at a time; the backward computes each hidden layer again.

    The hidden layer is D times larger than the scores, and nothing else needs it: keeping it for
    the backward would cost B·H·Nq·Nk·D numbers.
    """
    dtype = q.dtype
    q, k, v, w_query, w_key, bias, score_weight = wide(q, k, v, w_query, w_key, bias, score_weight)
    q, k = q @ w_query.mT + bias, k @ w_key.mT
    if scale is not None:
        score_weight = score_weight * scale
    q_len, k_len = q.shape[2], k.shape[2]
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], k_len)
    rows = max(1, BLOCK_ELEMENTS // max(1, k.numel()))
    blocks = []
    for start in range(0, max(1, q_len), rows):
        part = q[:, :, start : start + rows]
        # The keys that the last query of the block sees, and so the block's own lower right.
        keys = max(0, start + part.shape[2] + k_len - q_len) if causal else k_len
        own = mask
        if mask is not None:
            every = mask.shape[-2] == 1 if mask.dim() > 1 else True
            own = mask[..., :keys] if every else mask[..., start : start + rows, :keys]
        allowed = allowed_keys(part, k[:, :, :keys], own, causal)
        arguments = (part, k[:, :, :keys], v[:, :, :keys], score_weight, allowed)
        blocks.append(checkpoint(_block, *arguments, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(blocks, 2).to(dtype)


def _block(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    score_weight: torch.Tensor,
    allowed: torch.Tensor | None,
) -> torch.Tensor:
    hidden = torch.tanh(q[:, :, :, None] + k[:, :, None])
    return masked_softmax(hidden @ score_weight, allowed) @ v


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Normal with variance 1/D, shared by the heads; the bias is zero."""
    dim = shape.head_dim

    def normal(*size: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*size, generator=generator) / math.sqrt(dim))

    return {
        "w_query": normal(dim, dim),
        "w_key": normal(dim, dim),
        "bias": nn.Parameter(torch.zeros(dim)),
        "score_weight": normal(dim),
    }


def flops(case: Case) -> float:
    """Both projections, and over the visible pairs a product with w and one with the values."""
    shape = case.attention_shape
    rows = shape.batch * shape.heads * (shape.q_len + shape.k_len)
    return 2.0 * rows * shape.head_dim**2 + pair_flops(case)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Additive attention."""
    yield Attention(
        "additive",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=flops),
            "blocked": Forward(blocked, complexity="N^2", memory="N", flops=flops),
        },
        parameters=parameters,
        metadata=Metadata(
            title="Additive attention",
            summary="A small network with one hidden layer scores each pair of query and key.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"w^\top \tanh(W_q q_i + W_k k_j + b)\right) v_j",
            strengths=("scores stay bounded whatever D is", "query and key may differ in kind"),
            weaknesses=(
                "a tanh for every pair and feature: far dearer than a product",
                "no fused kernels",
            ),
            use_when="Small decoders over short sources, and where unscaled products saturate.",
            tags=("additive", "soft", "learnable", "self", "cross", "global", "translation"),
            section="scoring",
            paper=Paper(
                title="Neural Machine Translation by Jointly Learning to Align and Translate",
                authors=("Dzmitry Bahdanau", "Kyunghyun Cho", "Yoshua Bengio"),
                year=2015,
                url="https://arxiv.org/abs/1409.0473",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
