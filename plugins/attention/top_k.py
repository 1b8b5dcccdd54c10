"""Top-k attention: the explicit sparse transformer (Zhao et al., 2019, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.utils.checkpoint import checkpoint

from bakeoff import (
    Attention,
    Case,
    Forward,
    Identity,
    Metadata,
    Paper,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops

#: Scores that the blocked forward holds at once: 4 MiB in float32.
BLOCK_ELEMENTS = 2**20


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    top: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(M(q kᵀ / √D)) v, where M hides what is below the k-th largest score of its row.

    Scores equal to the k-th largest all stay, as in the masking of the paper. What is chosen jumps:
    scores are in float32 at least, so that rounding makes no more ties.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).mT * scale  # (B, H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    seen = scores
    if allowed is not None:
        seen = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    best = seen.detach().sort(-1, descending=True).values[..., :top]
    chosen = seen >= best[..., -1:]
    weights = masked_softmax(scores, chosen if allowed is None else chosen & allowed)
    return (weights @ v.to(wide)).to(q.dtype)


def blocked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    top: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The same, a block of queries at a time; the backward computes the scores again.

    Which keys are best is known only when every score is: FLOPs stay quadratic, memory does not
    (Gupta et al., 2021, section 2, https://arxiv.org/abs/2106.06899).
    """
    q_len, k_len = q.shape[2], k.shape[2]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)  # what is chosen jumps where scores tie
    dtype, (q, k, v) = q.dtype, (x.to(wide) for x in (q, k, v))
    rows = max(1, BLOCK_ELEMENTS // max(1, q.shape[0] * q.shape[1] * k_len))
    blocks = []
    for start in range(0, max(1, q_len), rows):
        part = q[:, :, start : start + rows]
        stop = start + part.shape[2]
        seen = mask
        if mask is not None and mask.dim() > 1 and mask.shape[-2] > 1:
            seen = mask[..., start:stop, :]
        if causal:
            # Lower right within the block: its last query is at k_len − q_len + stop − 1.
            visible = max(1, min(k_len, k_len - q_len + stop))
            seen = None if seen is None else seen.expand(*seen.shape[:-1], k_len)[..., :visible]
            place = torch.arange(start, stop, device=q.device)[:, None] + (k_len - q_len)
            past = torch.arange(visible, device=q.device) <= place
            seen = past if seen is None else past & seen
            keys, values = k[:, :, :visible], v[:, :, :visible]
        else:
            keys, values = k, v
        blocks.append(
            checkpoint(
                _block,
                part * scale,
                keys,
                values,
                seen,
                top,
                use_reentrant=False,
                preserve_rng_state=False,
            )
        )
    return torch.cat(blocks, 2).to(dtype)


def _block(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    allowed: torch.Tensor | None,
    top: int,
) -> torch.Tensor:
    scores = q @ k.mT
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    best = scores.detach().topk(min(top, k.shape[-2])).values
    chosen = scores >= best[..., -1:]
    return masked_softmax(scores, chosen if allowed is None else chosen & allowed) @ v


def supports(case: Case) -> str | None:
    """Without a key there is nothing to attend to."""
    return None if int(case.options["top"]) >= 1 else "top must be at least 1"


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Top-k attention."""
    yield Attention(
        "top_k",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "blocked": Forward(
                blocked, supports=supports, complexity="N^2", memory="N", flops=pair_flops
            ),
        },
        options={"top": 32},
        identities=(
            Identity(
                "k = N",
                options=lambda shape: {"top": shape.k_len},
                equals="scaled_dot_product",
                unless=lambda shape: {"top": shape.k_len // 4},
            ),
        ),
        metadata=Metadata(
            title="Top-k attention",
            summary="Each query attends to the k keys that score best, and to no other.",
            formula=r"o_i = \sum_{j \in \operatorname{top}_k(s_i)} \operatorname{softmax}_j(s_{ij})"
            r"\, v_j,\quad s_{ij} = \frac{q_i \cdot k_j}{\sqrt{D}}",
            strengths=("what does not matter gets a weight of exactly zero", "few values are read"),
            weaknesses=(
                "every score is computed all the same",
                "a key that is not chosen gets no gradient",
                "the output jumps where two scores change places",
            ),
            use_when="Long contexts of which little matters, and where the rest distracts.",
            tags=("dot_product", "soft", "self", "cross", "global", "sparse", "language"),
            section="sparse",
            paper=Paper(
                title="Explicit Sparse Transformer: Concentrated Attention Through Explicit "
                "Selection",
                authors=(
                    "Guangxiang Zhao",
                    "Junyang Lin",
                    "Zhiyuan Zhang",
                    "Xuancheng Ren",
                    "Qi Su",
                    "Xu Sun",
                ),
                year=2019,
                url="https://arxiv.org/abs/1912.11637",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
