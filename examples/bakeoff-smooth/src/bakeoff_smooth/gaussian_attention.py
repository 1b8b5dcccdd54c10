"""Gaussian attention (Guo et al., 2019, section 3.2, equation 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import nn

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


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    width: torch.Tensor,  # (H, 1, 1)
    shift: torch.Tensor,  # (H, 1, 1)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q kᵀ / √D − |w d² + b|) v, d the distance of query and key."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    i = torch.arange(k.shape[-2] - q.shape[-2], k.shape[-2], device=q.device)[:, None]
    j = torch.arange(k.shape[-2], device=q.device)
    squared = ((i - j) ** 2).to(q.dtype)  # (Nq, Nk), aligned at the lower right
    scores = q @ k.mT * scale - (width * squared + shift).abs()  # (B, H, Nq, Nk)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def fused(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    width: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention with the distances as a bias.

    They are looked up by distance, Nq + Nk − 1 of them, so that no N² numbers go through |w d² + b|
    and, in the backward, through its derivative.
    """
    q_len, k_len = q.shape[-2], k.shape[-2]
    distances = torch.arange(1 - q_len, k_len, device=q.device)  # every one that occurs
    penalty = (width * (distances**2).to(q.dtype) + shift).abs()  # (H, 1, Nq + Nk − 1)
    i = torch.arange(q_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    bias = -penalty.squeeze(-2)[None, :, i - j + k_len - 1]  # (1, H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    bias = bias.masked_fill(~allowed, torch.finfo(q.dtype).min)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    # A query that may attend to no key: the kernel would give it the mean of all values.
    return output.masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Widths from one token to some tens, a slope that halves from head to head; no shift."""
    slopes = 2.0 ** -torch.arange(1, shape.heads + 1, dtype=torch.float32)
    return {
        "width": nn.Parameter(0.1 * slopes.view(-1, 1, 1)),
        "shift": nn.Parameter(torch.zeros(shape.heads, 1, 1)),
    }


def no_distance(shape: Shape) -> Mapping[str, torch.Tensor]:
    """The parameters under which distance plays no part."""
    return {name: torch.zeros(shape.heads, 1, 1) for name in ("width", "shift")}


@hookimpl
def bakeoff_variants() -> Iterator[Attention]:
    """Gaussian attention."""
    yield Attention(
        "gaussian_attention",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2"),
            "fused": Forward(fused, complexity="N^2", memory="N^2"),
        },
        parameters=parameters,
        identities=(Identity("no distance", tensors=no_distance, equals="scaled_dot_product"),),
        metadata=Metadata(
            title="Gaussian attention",
            summary="Scores fall with the square of the distance, by a learned width.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}} - |w (i - j)^2 + b|\right) v_j",
            strengths=("near words count more from the first step", "two numbers a head"),
            weaknesses=("what is far is hardly seen", "as dear as dense attention"),
            use_when="Short texts in which neighbours matter most.",
            tags=("dot_product", "soft", "self", "cross", "local", "positional", "learnable"),
            paper=Paper(
                title="Gaussian Transformer: A Lightweight Approach for Natural Language Inference",
                authors=("Maosheng Guo", "Yu Zhang", "Ting Liu"),
                year=2019,
                url="https://doi.org/10.1609/aaai.v33i01.33016489",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
