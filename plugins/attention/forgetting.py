"""Forgetting attention (Lin et al., 2025, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff import (
    Attention,
    Forward,
    Identity,
    Metadata,
    Paper,
    Shape,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._precision import wide
from bakeoff.plugins.attention._tiles import tiled_attention


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    log_gates: torch.Tensor,  # (B, H, Nk), log f of each position
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q kᵀ / √D + d) v; d_ij is the sum of log f over the places after j and up to i.

    The paper has i ≥ j only. To both sides, d_ij is the sum over the places between them too.
    Positions are aligned at the lower right; before the first key nothing is forgotten.
    """
    q_levels, k_levels = _levels(q, log_gates)
    q_len, k_len = q.shape[-2], k.shape[-2]
    steps = q_levels[..., None] - k_levels[:, :, None]  # (B, H, Nq, Nk)
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    ahead = torch.arange(k_len, device=q.device) > i
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    decay = torch.where(ahead, -steps, steps).to(q.dtype)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale + decay
    return (masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v).to(dtype)


def tiled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    log_gates: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A tile of scores at a time, its decay from the cumulative sums of its rows and columns.

    Folding the sums into one more feature of q and k would suit a fused kernel, but they grow with
    the length: what is added within a product is rounded at their size, not at its own.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return tiled_attention(q, k, v, mask, causal, scale, levels=_levels(q, log_gates))


def _levels(q: torch.Tensor, log_gates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ log f up to each query's place and each key's, in float64: their differences are small."""
    k_levels = log_gates.double().cumsum(-1)
    offset = k_levels.shape[-1] - q.shape[-2]
    return F.pad(k_levels, (-offset, 0)), k_levels  # cut where there are fewer queries


def inputs(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """The logarithms of gates σ(x + 2) with x normal: half is forgotten after some five steps."""
    logits = torch.randn(shape.batch, shape.heads, shape.k_len, generator=generator) + 2
    return {"log_gates": F.logsigmoid(logits)}


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Forgetting attention."""
    yield Attention(
        "forgetting",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "tiled": Forward(tiled, complexity="N^2", memory="N", flops=pair_flops),
        },
        inputs=inputs,
        identities=(
            Identity(
                "gates open",
                tensors=lambda shape: {
                    "log_gates": torch.zeros(shape.batch, shape.heads, shape.k_len)
                },
                equals="scaled_dot_product",
            ),
        ),
        metadata=Metadata(
            title="Forgetting attention (FoX)",
            summary="Gates that depend on the data let each head forget what lies further back.",
            formula=r"o_i = \sum_{j \le i} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}} + \sum_{l=j+1}^{i} \log f_l\right) v_j",
            strengths=(
                "decides from the data how long to remember, as recurrent models do",
                "needs no position embedding",
            ),
            weaknesses=("FLOPs grow with the square of the length", "gates to compute and learn"),
            use_when="A long-context language model that should forget when a topic ends.",
            tags=(
                "dot_product",
                "soft",
                "self",
                "cross",
                "gated",
                "positional",
                "language",
                "long_context",
            ),
            section="beyond the textbook",
            paper=Paper(
                title="Forgetting Transformer: Softmax Attention with a Forget Gate",
                authors=("Zhixuan Lin", "Evgenii Nikishin", "Xu Owen He", "Aaron Courville"),
                year=2025,
                url="https://arxiv.org/abs/2503.02130",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
            aliases=("fox",),
        ),
    )
