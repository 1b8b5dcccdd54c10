"""Sliding-window attention (Beltagy et al., 2020, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

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
from bakeoff.plugins.attention._banded import banded_attention
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    window: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to |i − j| ≤ window; positions are aligned at the lower right."""
    q, k, v = map(pack_rows, (q, k, v))
    q_len, k_len = q.shape[-2], k.shape[-2]
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    band = (i - j).abs() <= window  # (Nq, Nk)
    allowed = band if mask is None else band & mask
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, allowed, causal)) @ v


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Blocks of queries, each against the keys within its reach: linear in time and memory."""
    after = 0 if causal else window
    output, _ = banded_attention(q, k, v, before=window, after=after, keys=mask, scale=scale)
    return output.to(q.dtype)


def flops(case: Case) -> float:
    """Two products of every query with the keys in its window, as if no key were out of reach."""
    shape = case.attention_shape
    window = int(case.options["window"])
    keys = min(shape.k_len, 1 + window + (0 if case.causal else window))
    return 2.0 * shape.batch * shape.heads * shape.q_len * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Sliding-window attention."""
    yield Attention(
        "sliding_window",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "chunked": Forward(chunked, masks="keys", complexity="N", memory="N", flops=flops),
        },
        options={"window": 128},
        identities=(
            Identity(
                "window >= N",
                options=lambda shape: {"window": max(shape.q_len, shape.k_len)},
                equals="scaled_dot_product",
                unless=lambda shape: {"window": shape.k_len // 4},
            ),
        ),
        metadata=Metadata(
            title="Sliding-window attention",
            summary="Each query attends to the keys within a fixed distance.",
            formula=r"o_i = \sum_{|i-j| \le w} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=("FLOPs and memory grow linearly with the length", "keeps local order"),
            weaknesses=("nothing beyond the window is seen in one layer",),
            use_when="Long sequences in which what matters is near: text, audio, DNA.",
            tags=(
                "dot_product",
                "soft",
                "self",
                "cross",
                "local",
                "efficient",
                "long_context",
                "language",
            ),
            section="scope",
            paper=Paper(
                title="Longformer: The Long-Document Transformer",
                authors=("Iz Beltagy", "Matthew E. Peters", "Arman Cohan"),
                year=2020,
                url="https://arxiv.org/abs/2004.05150",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
        ),
    )
