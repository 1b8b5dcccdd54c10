"""BigBird: window, global and random blocks (Zaheer et al., 2020, section 2 and appendix D)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

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
from bakeoff.plugins.attention._banded import attention_to_given, neighbour_attention
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._parts import merged
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    block_size: int,
    random_blocks: int,
    links: torch.Tensor,  # (H, blocks, random_blocks)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to what blocks of places see of each other.

    Each block sees itself, both neighbours, the first and the last block, and the blocks that
    ``links`` names; the first and the last block see everything (ITC, the internal transformer
    construction). Places are aligned at the lower right; before the first key there are no links.
    """
    q, k, v = map(pack_rows, (q, k, v))
    q_len, k_len = q.shape[-2], k.shape[-2]
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    own = i.div(block_size, rounding_mode="floor")  # (Nq, 1)
    other = torch.arange(k_len, device=q.device) // block_size  # (Nk,)
    last = (k_len - 1) // block_size
    near = (own - other).abs() <= 1
    everywhere = (other == 0) | (other == last) | (own == 0) | (own == last)
    rows = _require(links, last + 1)[:, own[:, 0].clamp(min=0)]  # (H, Nq, random_blocks)
    linked = (rows[..., None] == other).any(2) & (own >= 0)  # (H, Nq, Nk)
    seen = near | everywhere | linked
    allowed = allowed_keys(q, k, seen if mask is None else seen & mask, causal)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed) @ v


def blocked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    block_size: int,
    random_blocks: int,
    links: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Window, global keys and links apart, each in blocks, and merged; then the global queries."""
    q_len, k_len = q.shape[2], k.shape[2]
    offset, last = k_len - q_len, (k_len - 1) // block_size
    links = _require(links, last + 1)
    if mask is None:
        mask = torch.ones(1, 1, 1, k_len, dtype=torch.bool, device=q.device)
    mask = mask.expand(*mask.shape[:-1], k_len)[(None,) * (4 - mask.dim())]
    j = torch.arange(k_len, device=q.device)
    between = mask & (j >= block_size) & (j < last * block_size)
    window = neighbour_attention(
        q, k, v, block=block_size, causal=causal, keys=between, scale=scale
    )

    # The last block comes after all queries that are not global themselves.
    ends = j[:block_size]
    if not causal:
        ends = torch.cat([ends, j[max(block_size, last * block_size) :]])
    skipped = offset % block_size  # rows of the first block that come before the first query
    query = F.pad(q, (0, 0, skipped, -(skipped + q_len) % block_size))
    query = query.view(*q.shape[:2], query.shape[2] // block_size, block_size, q.shape[3])
    parts = [
        attention_to_given(
            query,
            k[:, :, None, ends],
            v[:, :, None, ends],
            seen=mask[:, :, :, ends],
            scale=scale,
        )
    ]
    if links.shape[-1]:
        own = offset // block_size + torch.arange(query.shape[2], device=q.device)
        cells, seen = _linked(links, own, last, causal)
        seen = (
            seen.repeat_interleave(block_size, -1) & _blocks_of(mask.mT, cells, block_size)[..., 0]
        )
        key, value = (_blocks_of(x, cells, block_size) for x in (k, v))
        parts.append(attention_to_given(query, key, value, seen=seen, scale=scale))
    rows = slice(skipped, skipped + q_len)
    far = [(o.flatten(2, 3)[:, :, rows], total.flatten(2, 3)[:, :, rows]) for o, total in parts]
    output = merged(window, *far)[0].to(q.dtype)

    # Rows of the queries in the first block and in the last; before them are those without a place.
    begin = min(q_len, max(0, -offset))
    first = slice(begin, max(begin, min(q_len, block_size - offset)))
    final = slice(max(first.stop, last * block_size - offset), q_len)

    def everywhere(rows: slice) -> torch.Tensor:
        seen = mask & (offset + torch.arange(q_len, device=q.device)[rows, None] >= j)
        return fused_attention(q[:, :, rows], k, v, seen if causal else mask, False, scale)

    before = output[:, :, :begin]
    return torch.cat(
        [
            torch.zeros_like(before) if causal else before,
            everywhere(first),
            output[:, :, first.stop : final.start],
            everywhere(final),
        ],
        2,
    )


def _linked(
    links: torch.Tensor, own: torch.Tensor, last: int, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The blocks that the blocks ``own`` are linked to, and which of them they see by that alone.

    Both are (H, blocks, random_blocks).
    """
    others = links[:, own.clamp(min=0)]
    distance = own[:, None] - others
    twice = (others[..., None] == others[..., None, :]).tril(-1).any(-1)
    otherwise = (others <= 0) | (others >= last) | (distance.abs() <= 1) | twice
    seen = ~otherwise & (own >= 0)[:, None]
    return others.clamp(0, last), seen & (distance > 0) if causal else seen


def _blocks_of(x: torch.Tensor, cells: torch.Tensor, size: int) -> torch.Tensor:
    """Rows of the blocks ``cells`` (H, blocks, count): (B, H or 1, N, D) -> (B, H, blocks, …, D).

    index_select, for the sake of its backward.
    """
    heads, blocks, count = cells.shape
    x = F.pad(x, (0, 0, 0, -x.shape[2] % size))
    batch, _, rows, dim = x.shape
    x = x.expand(batch, heads, rows, dim).reshape(-1, size, dim)
    first = torch.arange(batch * heads, device=x.device).view(batch, heads, 1, 1) * (rows // size)
    chosen = x.index_select(0, (first + cells).flatten())
    return chosen.view(batch, heads, blocks, count * size, dim)


def _require(links: torch.Tensor, blocks: int) -> torch.Tensor:
    if links.shape[1] != blocks:
        raise ValueError(
            f"bigbird: links are drawn for {links.shape[1]} blocks of keys, this call has {blocks}"
        )
    return links


def parameters(
    shape: Shape, generator: torch.Generator | None, block_size: int, random_blocks: int
) -> Mapping[str, torch.Tensor]:
    """For each head and block the blocks that it is linked to, a buffer; −1 where none is left.

    They are drawn from what the block does not see otherwise.
    """
    blocks = -(-shape.k_len // block_size)
    own = torch.arange(blocks)
    seen = (own[:, None] - own).abs() <= 1
    seen |= (own == 0) | (own == blocks - 1)
    lots = torch.rand(shape.heads, blocks, blocks, generator=generator).masked_fill(seen, -1.0)
    best = lots.topk(min(random_blocks, blocks), -1)
    links = best.indices.masked_fill(best.values < 0, -1)
    return {"links": F.pad(links, (0, random_blocks - links.shape[-1]), value=-1)}


def supports(case: Case) -> str | None:
    """Blocks hold at least one place."""
    return None if int(case.options["block_size"]) >= 1 else "block_size must be at least 1"


def flops(case: Case) -> float:
    """Two products of every query with three blocks, two global ones and the links (a causal one
    sees two and one); of the queries of both global blocks with every key.
    """
    shape = case.attention_shape
    size = int(case.options["block_size"])
    blocks = int(case.options["random_blocks"]) + (3 if case.causal else 5)
    keys = min(shape.k_len, size * blocks)
    pairs = shape.q_len * keys + min(2 * size, shape.q_len) * (shape.k_len - keys)
    return 2.0 * shape.batch * shape.heads * pairs * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """BigBird attention."""
    yield Attention(
        "bigbird",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "blocked": Forward(
                blocked, supports=supports, masks="keys", complexity="N", memory="N", flops=flops
            ),
        },
        options={"block_size": 64, "random_blocks": 3},
        parameters=parameters,
        identities=(
            Identity(
                "one block",
                options=lambda shape: {"block_size": shape.k_len},
                equals="scaled_dot_product",
                unless=lambda shape: {"block_size": 2, "random_blocks": 0},
            ),
            Identity(
                "all blocks linked",
                options=lambda shape: {"block_size": 4, "random_blocks": -(-shape.k_len // 4)},
                equals="scaled_dot_product",
                unless=lambda shape: {"block_size": 4, "random_blocks": 1},
            ),
        ),
        metadata=Metadata(
            title="BigBird",
            summary="Blocks of tokens see their neighbours, two global blocks and a few at random.",
            formula=r"o_i = \sum_{j \in W(i) \cup G \cup R(i)} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=(
                "random links make any two tokens a few steps apart",
                "still a universal approximator, as full attention is",
                "FLOPs and memory grow linearly with the length",
            ),
            weaknesses=(
                "a block sees at least eight blocks: dearer than a window",
                "links are drawn for one length",
            ),
            use_when="Long documents with relations at any distance, in an encoder.",
            tags=(
                "dot_product",
                "soft",
                "self",
                "cross",
                "local",
                "sparse",
                "efficient",
                "long_context",
                "language",
            ),
            section="sparse",
            paper=Paper(
                title="Big Bird: Transformers for Longer Sequences",
                authors=(
                    "Manzil Zaheer",
                    "Guru Guruganesh",
                    "Avinava Dubey",
                    "Joshua Ainslie",
                    "Chris Alberti",
                    "Santiago Ontanon",
                    "Philip Pham",
                    "Anirudh Ravula",
                    "Qifan Wang",
                    "Li Yang",
                    "Amr Ahmed",
                ),
                year=2020,
                url="https://arxiv.org/abs/2007.14062",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
