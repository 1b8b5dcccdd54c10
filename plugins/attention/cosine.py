"""Scaled cosine attention (Liu et al., 2022, section 3.2, equation 2), without position bias."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import (
    Attention,
    Forward,
    Metadata,
    Paper,
    Shape,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.registry.layout import pack_rows

#: 1/τ may not exceed 100, as the temperature τ is "set larger than 0.01".
MOST = math.log(100)
#: Shorter vectors count as this long; float16 knows no smaller power of ten.
SHORTEST = 1e-6


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    log_scale: torch.Tensor,  # (H,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(cos(q, k) / τ) v, one τ a head; a scale, where given, multiplies the scores.

    τ is learned as log(1/τ).
    """
    q, k, v = map(pack_rows, (q, k, v))
    q_size, k_size = (t.norm(dim=-1).clamp(min=SHORTEST) for t in (q, k))
    # One after the other: in float16 the product of two small sizes would be zero.
    cosines = q @ k.mT / q_size[..., None] / k_size[:, :, None]  # (B, H, Nq, Nk)
    scores = cosines * log_scale.clamp(max=MOST).exp()[:, None, None]
    scores = scores * (1.0 if scale is None else scale)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    log_scale: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Queries and keys of length one, the queries times 1/τ, then torch's fused attention."""
    q = F.normalize(q, dim=-1, eps=SHORTEST) * log_scale.clamp(max=MOST).exp()[:, None, None]
    k = F.normalize(k, dim=-1, eps=SHORTEST)
    return fused_attention(q, k, v, mask, causal, 1.0 if scale is None else scale)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """1/τ = 10, as the authors begin."""
    return {"log_scale": nn.Parameter(torch.full((shape.heads,), math.log(10)))}


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Cosine attention."""
    yield Attention(
        "cosine",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=pair_flops),
        },
        parameters=parameters,
        metadata=Metadata(
            title="Scaled cosine attention",
            summary="A softmax over cosines of query and key with a learned temperature a head.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{\cos(q_i, k_j)}{\tau}\right) v_j",
            strengths=(
                "scores do not depend on the size of activations",
                "no head is ruled by a few pairs in large models",
            ),
            weaknesses=("length carries no meaning any more", "a temperature to learn"),
            use_when="Large vision models in which dot products grow with depth.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "self",
                "cross",
                "global",
                "normalising",
                "vision",
            ),
            section="beyond the textbook",
            paper=Paper(
                title="Swin Transformer V2: Scaling Up Capacity and Resolution",
                authors=(
                    "Ze Liu",
                    "Han Hu",
                    "Yutong Lin",
                    "Zhuliang Yao",
                    "Zhenda Xie",
                    "Yixuan Wei",
                    "Jia Ning",
                    "Yue Cao",
                    "Zheng Zhang",
                    "Li Dong",
                    "Furu Wei",
                    "Baining Guo",
                ),
                year=2022,
                url="https://arxiv.org/abs/2111.09883",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
