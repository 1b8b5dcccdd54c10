"""Nyströmformer (Xiong et al., 2021, sections 3.2 and 3.3, equations 8, 13 and 14)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Attention, Case, Forward, Identity, Metadata, Paper, hookimpl, masked_softmax
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._linear import counted, mean_of, visible
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    landmarks: int,
    iterations: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q k̃ᵀ) Z softmax(q̃ kᵀ) v with Z near the pseudoinverse of softmax(q̃ k̃ᵀ).

    q̃ and k̃ are the means of ``landmarks`` segments of nearly one length, of k̃ over the keys that
    the mask shows. With as many landmarks as queries or keys it is softmax(q kᵀ) v: the exact
    pseudoinverse makes it so, and the authors' code computes it so.
    """
    dtype = q.dtype
    q, k, v = wide(q, k, v)  # the pseudoinverse enlarges every rounding
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if landmarks >= min(q.shape[-2], k.shape[-2]):
        return (masked_softmax(q @ k.mT * scale, mask) @ v).to(dtype)
    shown = torch.ones_like(k[..., :1])  # (B, H, Nk, 1)
    if mask is not None:
        shown = mask.broadcast_to(*k.shape[:2], 1, k.shape[2]).mT.to(k.dtype)
    means = [part.mean(2) for part in q.tensor_split(landmarks, 2)]
    q_means = torch.stack(means, 2)  # (B, H, m, D)
    counts = torch.stack([part.sum(2) for part in shown.tensor_split(landmarks, 2)], 2)
    sums = torch.stack([part.sum(2) for part in (shown * k).tensor_split(landmarks, 2)], 2)
    k_means = sums / counts.clamp(min=1)  # (B, H, m, D)
    seen = (counts > 0).mT  # (B, H, 1, m)
    left = masked_softmax(q @ k_means.mT * scale, seen)  # (B, H, Nq, m)
    middle = masked_softmax(q_means @ k_means.mT * scale, seen)  # (B, H, m, m)
    right = masked_softmax(q_means @ k.mT * scale, mask)  # (B, H, m, Nk)
    one_norm, inf_norm = middle.sum(-2).amax(-1), middle.sum(-1).amax(-1)  # (B, H)
    both = (one_norm * inf_norm)[..., None, None]
    inverse = middle.mT / both.where(both > 0, 1.0)
    eye = torch.eye(landmarks, dtype=q.dtype, device=q.device)
    for _ in range(iterations):  # equation 14
        product = middle @ inverse
        inner = 15 * eye - product @ (7 * eye - product)
        inverse = inverse @ (13 * eye - product @ inner) / 4
    return (left @ inverse @ (right @ v)).to(dtype)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    landmarks: int,
    iterations: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Two fused attentions: of the landmarks to all keys, and of all queries to the landmarks.

    Both in float32 at least: the pseudoinverse between them enlarges what the first one rounds.
    """
    if landmarks >= min(q.shape[2], k.shape[2]):
        return fused_attention(q, k, v, mask, False, scale)
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    q_means = mean_of(_segment_sums(counted(q), landmarks))
    sums = _segment_sums(visible(counted(k), mask), landmarks)
    k_means, seen = mean_of(sums), None if mask is None else sums[..., -1:].mT > 0
    middle = masked_softmax(q_means @ k_means.mT * scale, seen)
    means = F.scaled_dot_product_attention(q_means, k, v, attn_mask=mask, scale=scale)
    values = _pseudoinverse(middle, iterations) @ means  # (B, H, m, Dv)
    output = F.scaled_dot_product_attention(q, k_means, values, attn_mask=seen, scale=scale)
    return output.to(dtype)


def _segment_sums(x: torch.Tensor, segments: int) -> torch.Tensor:
    """Sums over segments of nearly one length, the longer ones first: (B, H, segments, ·)."""
    batch, heads, length, width = x.shape
    size, longer = divmod(length, segments)
    cut = longer * (size + 1)
    first = x[:, :, :cut].reshape(batch, heads, longer, size + 1, width)
    rest = x[:, :, cut:].reshape(batch, heads, segments - longer, size, width)
    return torch.cat([first.sum(3), rest.sum(3)], 2)


def _pseudoinverse(matrix: torch.Tensor, iterations: int) -> torch.Tensor:
    """The same iteration with A Z = P: Z (13 − 15 P + 7 P² − P³) / 4, for each matrix by itself."""
    norms = matrix.sum(-2).amax(-1) * matrix.sum(-1).amax(-1)  # (B, H)
    inverse = matrix.mT / norms.masked_fill(norms == 0, 1.0)[..., None, None]
    for _ in range(iterations):
        both = matrix @ inverse
        step = 15 * both - both @ (7 * both - both @ both)
        inverse = (13 * inverse - inverse @ step) / 4
    return inverse


def flops(case: Case) -> float:
    """Products of landmarks with queries and keys, and four small ones for each iteration."""
    shape, landmarks = case.attention_shape, int(case.options["landmarks"])
    if landmarks >= min(shape.q_len, shape.k_len):
        return pair_flops(case)
    width = shape.head_dim + shape.value_dim
    products = (shape.q_len + shape.k_len) * landmarks * width + landmarks**2 * width
    inverse = 4 * int(case.options["iterations"]) * landmarks**3
    return 2.0 * shape.batch * shape.heads * (products + inverse)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Nyströmformer."""
    yield Attention(
        "nystromformer",
        forwards={
            "reference": Forward(reference, masks="keys", complexity="N", memory="N", flops=flops),
            "sdpa": Forward(sdpa, masks="keys", complexity="N", memory="N", flops=flops),
        },
        options={"landmarks": 32, "iterations": 6},
        approximates="scaled_dot_product",
        identities=(
            Identity(
                "landmarks = N",
                options=lambda shape: {"landmarks": shape.k_len},
                equals="scaled_dot_product",
                unless=lambda shape: {"landmarks": shape.k_len // 4},
            ),
        ),
        metadata=Metadata(
            title="Nyströmformer",
            summary="The softmax matrix rebuilt from a few landmarks, means of segments.",
            formula=r"\operatorname{softmax}(Q \tilde K^\top)\,"
            r"\operatorname{softmax}(\tilde Q \tilde K^\top)^{+}\,"
            r"\operatorname{softmax}(\tilde Q K^\top) V",
            strengths=(
                "FLOPs and memory grow linearly with the length",
                "no parameters: it can stand in for softmax",
            ),
            weaknesses=(
                "the pseudoinverse is approximate and touchy in low precision",
                "no causal form: landmarks mix past and future",
            ),
            use_when="Long encoders whose attention is smooth along the sequence.",
            tags=(
                "dot_product",
                "soft",
                "low_rank",
                "self",
                "cross",
                "global",
                "positional",
                "efficient",
                "long_context",
                "language",
            ),
            section="low-rank",
            paper=Paper(
                title="Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention",
                authors=(
                    "Yunyang Xiong",
                    "Zhanpeng Zeng",
                    "Rudrasis Chakraborty",
                    "Mingxing Tan",
                    "Glenn Fung",
                    "Yin Li",
                    "Vikas Singh",
                ),
                year=2021,
                url="https://arxiv.org/abs/2102.03902",
            ),
            properties={
                "row_stochastic": False,
                "stochastic": False,
                "differentiable": True,
                "mixes_queries": True,
                "patterns": ("self", "cross"),
            },
            unused=("causal",),
        ),
    )
