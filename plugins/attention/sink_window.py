"""A sliding window and attention sinks (Xiao et al., 2023, section 3.2)."""

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
from bakeoff.plugins.attention._parts import dense_part, merged
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    window: int,
    sinks: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to the window and to the first keys (figure 1 d).

    The paper is causal; without ``causal`` the window reaches to both sides.
    """
    q, k, v = map(pack_rows, (q, k, v))
    q_len, k_len = q.shape[-2], k.shape[-2]
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    near = ((i - j).abs() <= window) | (j < sinks)  # (Nq, Nk)
    allowed = near if mask is None else near & mask
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, allowed, causal)) @ v


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    sinks: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The window without the sinks, in blocks, and the sinks for all queries at once."""
    q_len, k_len = q.shape[2], k.shape[2]
    j = torch.arange(k_len, device=q.device)
    others = j >= sinks
    near = banded_attention(
        q,
        k,
        v,
        before=window,
        after=0 if causal else window,
        keys=others if mask is None else others & mask,
        scale=scale,
    )
    seen = None if mask is None else mask[..., :sinks]
    if causal:
        past = torch.arange(k_len - q_len, k_len, device=q.device)[:, None] >= j[:sinks]
        seen = past if seen is None else past & seen
    far = dense_part(q, k[:, :, :sinks], v[:, :, :sinks], allowed=seen, scale=scale)
    return merged(near, far)[0].to(q.dtype)


def flops(case: Case) -> float:
    """Two products of every query with its window and the sinks, as if none were out of reach."""
    shape = case.attention_shape
    window, sinks = int(case.options["window"]), int(case.options["sinks"])
    keys = min(shape.k_len, 1 + window + (0 if case.causal else window) + sinks)
    return 2.0 * shape.batch * shape.heads * shape.q_len * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Sliding window with sinks."""
    yield Attention(
        "sink_window",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "chunked": Forward(chunked, masks="keys", complexity="N", memory="N", flops=flops),
        },
        options={"window": 128, "sinks": 4},
        identities=(
            Identity(
                "window >= N",
                options=lambda shape: {"window": max(shape.q_len, shape.k_len)},
                equals="scaled_dot_product",
                unless=lambda shape: {"window": shape.k_len // 4},
            ),
            Identity(
                "all keys are sinks",
                options=lambda shape: {"window": 0, "sinks": shape.k_len},
                equals="scaled_dot_product",
                unless=lambda shape: {"window": 0, "sinks": shape.k_len // 4},
            ),
        ),
        metadata=Metadata(
            title="Sliding window with attention sinks",
            summary="Each query attends to the keys near it and to the first few of all.",
            formula=r"o_i = \sum_{|i-j| \le w \,\lor\, j < s} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=(
                "a cache of fixed size for streams without end",
                "the first tokens, which trained models use as a sink, are never lost",
            ),
            weaknesses=("what left the window is forgotten",),
            use_when="A language model must run on and on with a cache of fixed size.",
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
            section="beyond the textbook",
            paper=Paper(
                title="Efficient Streaming Language Models with Attention Sinks",
                authors=(
                    "Guangxuan Xiao",
                    "Yuandong Tian",
                    "Beidi Chen",
                    "Song Han",
                    "Mike Lewis",
                ),
                year=2023,
                url="https://arxiv.org/abs/2309.17453",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": False,
            },
        ),
    )
