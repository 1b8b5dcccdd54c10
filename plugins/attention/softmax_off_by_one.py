"""Softmax with one more in the denominator (Miller, 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Attention, Forward, Metadata, Paper, allowed_keys, hookimpl
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._prefix import attention_with_prefix
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Σ_j exp(s_ij) v_j / (1 + Σ_j exp(s_ij)) with s = q kᵀ / √D.

    The one is exp(0): a softmax over one score of zero more, whose weight is left out.
    """
    q, k, v = map(pack_rows, (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale  # (B, H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    weights = F.pad(scores, (1, 0)).softmax(-1)[..., 1:]
    return pack_rows(weights) @ v


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention, with one key and value of zeros, whose score is 0 = log 1."""
    zero_k, zero_v = torch.zeros_like(k[:, :, :1]), torch.zeros_like(v[:, :, :1])
    return attention_with_prefix(q, k, v, zero_k, zero_v, mask, causal, scale)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Attention that may attend to nothing."""
    yield Attention(
        "softmax_off_by_one",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=pair_flops),
        },
        metadata=Metadata(
            title="Softmax-off-by-one attention",
            summary="A softmax with one added to its denominator: a head may attend to nothing.",
            formula=r"o_i = \frac{\sum_j e^{s_{ij}} v_j}{1 + \sum_j e^{s_{ij}}},\quad "
            r"s_{ij} = \frac{q_i \cdot k_j}{\sqrt{D}}",
            strengths=(
                "a head with nothing to say outputs zero instead of a mean",
                "fewer outlier activations, which helps quantisation",
            ),
            weaknesses=("weights no longer sum to one", "little evidence at scale"),
            use_when="Heads park their attention on a first token, or the model is quantised.",
            tags=("dot_product", "soft", "self", "cross", "global", "language"),
            section="beyond the textbook",
            paper=Paper(
                title="Attention Is Off By One",
                authors=("Evan Miller",),
                year=2023,
                url="https://www.evanmiller.org/attention-is-off-by-one.html",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
