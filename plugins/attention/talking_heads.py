"""Talking-heads attention (Shazeer et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

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
from bakeoff.plugins.attention._blocks import by_query_blocks
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mix_scores: torch.Tensor,  # (H, H), P_l: from the heads of keys to those of the softmax
    mix_weights: torch.Tensor,  # (H, H), P_w: from these to the heads of values
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The heads are mixed before the softmax and after it.

    The mask acts on the softmax, as with the authors, and once more on the mixed weights: else a
    mask that differs from head to head would let through what another head may see.
    """
    q, k, v, mix_scores, mix_weights = map(pack_rows, (q, k, v, mix_scores, mix_weights))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    allowed = allowed_keys(q, k, mask, causal)
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * scale
    weights = masked_softmax(torch.einsum("bhij,hg->bgij", scores, mix_scores), allowed)
    mixed = torch.einsum("bgij,go->boij", weights, mix_weights)
    if allowed is not None:
        mixed = mixed.masked_fill(~allowed, 0.0)
    return torch.einsum("boij,bojd->boid", mixed, v)


def blocked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mix_scores: torch.Tensor,
    mix_weights: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The same, a block of queries with all heads at a time; mixtures are products of matrices."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    q, k, v = map(pack_rows, (q * scale, k, v))
    before, after = pack_rows(mix_scores.mT), pack_rows(mix_weights.mT)
    # Only a mask that differs from head to head hides what the softmax has not hidden already.
    by_head = mask is not None and mask.dim() > 2 and mask.shape[-3] > 1

    def attend(rows: slice, keys: slice, allowed: torch.Tensor | None) -> torch.Tensor:
        scores = q[:, :, rows] @ k[:, :, keys].mT
        weights = _mixed(masked_softmax(_mixed(scores, before), allowed), after)
        if by_head and allowed is not None:
            weights = weights.masked_fill(~allowed, 0.0)
        return weights @ v[:, :, keys]

    return by_query_blocks(attend, q, k, mask, causal)


def _mixed(scores: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
    """(B, H, r, n) with its heads mixed by (H, H)."""
    return (mixing @ scores.flatten(2)).view_as(scores)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Normal with variance 1/H, so that mixing keeps the size of the scores."""
    size = (shape.heads, shape.heads)

    def normal() -> nn.Parameter:
        return nn.Parameter(torch.randn(size, generator=generator) / math.sqrt(shape.heads))

    return {"mix_scores": normal(), "mix_weights": normal()}


def flops(case: Case) -> float:
    """The two products of attention, and two mixtures of H heads, over the visible pairs."""
    shape = case.attention_shape
    products = shape.head_dim + shape.value_dim + 2 * shape.heads
    return 2.0 * shape.batch * shape.heads * case.visible_pairs * products


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Talking-heads attention."""
    yield Attention(
        "talking_heads",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=flops),
            "blocked": Forward(blocked, complexity="N^2", memory="N", flops=flops),
        },
        parameters=parameters,
        identities=(
            Identity(
                "heads don't talk",
                tensors=lambda shape: dict.fromkeys(
                    ("mix_scores", "mix_weights"), torch.eye(shape.heads)
                ),
                equals="scaled_dot_product",
            ),
        ),
        metadata=Metadata(
            title="Talking-heads attention",
            summary="Learned mixtures of the heads, of their scores and of their weights.",
            formula=r"o^o = \sum_g P_w^{go} \operatorname{softmax}\!\left(\sum_h P_l^{hg} "
            r"\frac{Q^h K^{h\top}}{\sqrt{D}}\right) V^o",
            strengths=(
                "many small heads work together instead of each alone",
                "better quality for the same number of parameters",
            ),
            weaknesses=("2·H² more FLOPs a pair", "no fused kernel: heads can't be done alone"),
            use_when="Quality counts more than speed, and heads are many and small.",
            tags=(
                "dot_product",
                "soft",
                "multi_head",
                "learnable",
                "self",
                "cross",
                "global",
                "language",
            ),
            section="scoring",
            paper=Paper(
                title="Talking-Heads Attention",
                authors=(
                    "Noam Shazeer",
                    "Zhenzhong Lan",
                    "Youlong Cheng",
                    "Nan Ding",
                    "Le Hou",
                ),
                year=2020,
                url="https://arxiv.org/abs/2003.02436",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
