"""Hierarchical attention: H-Transformer-1D (Zhu and Soricut, 2021, section 6)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import (
    Attention,
    Case,
    Forward,
    Identity,
    Metadata,
    Paper,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._banded import attention_in_blocks, neighbour_attention
from bakeoff.plugins.attention._parts import Part, hidden_score, merged
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    block_size: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax over scores that are exact for near pairs and coarser the farther apart a pair is.

    At level l places stand in groups of 2^l, and groups in blocks of N_r. A pair is scored at the
    first level at which its blocks are the same or neighbours, by the product of the mean query and
    the mean key of its groups. Places are aligned at the lower right.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v = wide(q, k, v)
    i = torch.arange(k_len - q_len, k_len, device=q.device)
    j = torch.arange(k_len, device=q.device)
    seen = j.new_ones(1, 1, 1, k_len).bool() if mask is None else mask
    scores = q.new_zeros(q_len, k_len)
    left = scores == 0  # pairs without a score so far
    for level in range(_levels(q_len, k_len, block_size)):
        groups_i, groups_j = i >> level, j >> level
        blocks_i, blocks_j = groups_i // block_size, groups_j // block_size
        now = left & ((blocks_i[:, None] - blocks_j).abs() <= 1)
        together = (groups_i[:, None] == groups_i).to(q.dtype)  # (Nq, Nq)
        query = together @ q / together.sum(-1, keepdim=True)
        together = ((groups_j[:, None] == groups_j) & seen).to(k.dtype)  # (B, 1, Nk, Nk)
        key = together @ k / together.sum(-1, keepdim=True).clamp(min=1)
        scores = torch.where(now, query @ key.mT * scale, scores)
        left = left & ~now
    return (masked_softmax(scores, seen) @ v).to(dtype)


def coarsened(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    block_size: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Each level on its own short sequences of means, merged from the coarsest to the finest."""
    q_len, k_len = q.shape[2], k.shape[2]
    levels = _levels(q_len, k_len, block_size)
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    near = neighbour_attention(q, k, v, block=block_size, causal=False, keys=mask, scale=scale)
    if levels == 1:
        return near[0].to(dtype)

    # Queries and keys begin at multiples of the coarsest block, so that all groups are aligned.
    span = block_size << (levels - 1)
    skipped = (k_len - q_len) % span
    first = (k_len - q_len - skipped) // block_size  # in blocks, at any level times 2^level
    query = F.pad(q, (0, 0, skipped, -(skipped + q_len) % span))
    query_count = F.pad(query.new_ones(1, 1, q_len, 1), (0, 0, skipped, -(skipped + q_len) % span))
    if mask is None:
        mask = torch.ones(1, 1, 1, k_len, dtype=torch.bool, device=q.device)
    mask = mask[(None,) * (4 - mask.dim())]
    count = mask.expand(*mask.shape[:-1], k_len).to(q.dtype).mT  # (B, H or 1, Nk, 1)
    more = (0, 0, 0, -k_len % span)
    key, value, count = (F.pad(x, more) for x in (k * count, v * count, count))
    coarse = []
    for level in range(1, levels):
        query, query_count, key, value, count = (
            x[:, :, ::2] + x[:, :, 1::2] for x in (query, query_count, key, value, count)
        )
        coarse.append(
            _beyond(
                query / query_count.clamp(min=1),
                key / count.clamp(min=1),
                value / count.clamp(min=1),
                count,
                block_size,
                (first * block_size >> level) - block_size,
                scale,
            )
        )
    part = coarse.pop()
    while coarse:
        part = merged(coarse.pop(), _finer(part))
    output, total = (x[:, :, skipped : skipped + q_len] for x in _finer(part))
    return merged(near, (output, total))[0].to(dtype)


def _beyond(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    count: torch.Tensor,
    block: int,
    first: int,
    scale: float | None,
) -> Part:
    """What groups see of the own and both neighbouring blocks that no finer level has seen.

    A mean counts as often as there are keys in it.
    """
    half = torch.arange(-block, 2 * block, device=q.device) // (block // 2)
    finer = (half[block : 2 * block, None] - half).abs() <= 1  # their blocks at the level below
    hidden = hidden_score(q.dtype)
    bias = torch.zeros(1, block, 3 * block, dtype=q.dtype, device=q.device)
    key_bias = count.clamp(min=1).log().masked_fill(count == 0, hidden).mT
    return attention_in_blocks(
        q, k, v, bias.masked_fill(finer, hidden), first, key_bias=key_bias, scale=scale
    )


def _finer(part: Part) -> Part:
    """What a group has, for both of its halves."""
    output, total = part
    return output.repeat_interleave(2, 2), total.repeat_interleave(2, 2)


def _levels(q_len: int, k_len: int, block: int) -> int:
    """Levels until all blocks are neighbours."""
    level = 0
    while (k_len - 1) // (block << level) - min(0, (k_len - q_len) // (block << level)) > 1:
        level += 1
    return level + 1


def supports(case: Case) -> str | None:
    """A group at one level must lie within one block of the level below."""
    size = int(case.options["block_size"])
    return None if size >= 2 and size % 2 == 0 else "block_size must be even and at least 2"


def flops(case: Case) -> float:
    """Two products of every query with three blocks, and of every group at each level."""
    shape = case.attention_shape
    block = int(case.options["block_size"])
    levels = _levels(shape.q_len, shape.k_len, block)
    rows = shape.q_len * (2.0 - 0.5 ** (levels - 1))
    keys = min(shape.k_len, 3 * block)
    return 2.0 * shape.batch * shape.heads * rows * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """H-Transformer-1D."""
    yield Attention(
        "hierarchical",
        forwards={
            "reference": Forward(
                reference,
                supports=supports,
                masks="keys",
                complexity="N^2",
                memory="N^2",
            ),
            "coarsened": Forward(
                coarsened, supports=supports, masks="keys", complexity="N", memory="N", flops=flops
            ),
        },
        options={"block_size": 16},
        identities=(
            Identity(
                "one block",
                options=lambda shape: {"block_size": 2 * max(shape.q_len, shape.k_len)},
                equals="scaled_dot_product",
                unless=lambda shape: {"block_size": 2},
            ),
        ),
        metadata=Metadata(
            title="Hierarchical attention",
            summary="Near keys are seen one by one, far ones as means over ever larger groups.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{\bar q^{(l)}_i \cdot \bar k^{(l)}_j}{\sqrt{D}}\right) v_j,"
            r"\quad l = l(i, j)",
            strengths=(
                "sees everything, with a resolution that falls with the distance",
                "FLOPs and memory grow linearly with the length",
            ),
            weaknesses=(
                "a single far key can't be told from its neighbours",
                "queries are averaged too: later ones reach earlier outputs, so it is not causal",
            ),
            use_when="Long sequences in which what is far matters in outline.",
            tags=(
                "dot_product",
                "soft",
                "self",
                "cross",
                "hierarchical",
                "efficient",
                "long_context",
                "language",
            ),
            section="hierarchical",
            paper=Paper(
                title="H-Transformer-1D: Fast One-Dimensional Hierarchical Attention for Sequences",
                authors=("Zhenhai Zhu", "Radu Soricut"),
                year=2021,
                url="https://arxiv.org/abs/2107.11906",
            ),
            unused=("causal",),
            properties={
                "row_stochastic": True,
                "patterns": ("self", "cross"),
                "stochastic": False,
                "differentiable": True,
                "mixes_queries": True,
            },
        ),
    )
