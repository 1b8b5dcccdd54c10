"""Adaptive attention span (Sukhbaatar et al., 2019, section 2.2)."""

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
)
from bakeoff.plugins.attention._banded import banded_attention
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._empty import with_a_key
from bakeoff.plugins.attention._parts import hidden_score
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    max_span: int,
    ramp: int,
    span: torch.Tensor,  # (H,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """a_ij = m_z(i − j) exp(s_ij) / Σ_j m_z(i − j) exp(s_ij).

    There m_z(x) is (R + z − x) / R within 0 and 1. Each head has a z = S · span,
    span within 0 and 1, S the largest span. The paper is causal; without ``causal`` both sides are
    seen, by the distance |i − j|.
    """
    k, v, mask = with_a_key(k, v, mask)
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v, span = wide(q, k, v, span)
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    distance = (i - torch.arange(k_len, device=q.device)).abs()  # (Nq, Nk)
    z = max_span * span.clamp(0, 1)[:, None, None]  # (H, 1, 1)
    soft = ((ramp + z - distance) / ramp).clamp(0, 1)  # (H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        soft = soft * allowed
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale
    seen = scores.masked_fill(soft == 0, torch.finfo(scores.dtype).min)
    weights = soft * (scores - seen.amax(-1, keepdim=True).detach()).masked_fill(soft == 0, 0).exp()
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1) @ v).to(dtype)


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    max_span: int,
    ramp: int,
    span: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A window of the largest span and its ramp, with log m_z added to the scores by distance."""
    reach = max_span + ramp - 1  # where m_z is above 0 for the largest z
    after = 0 if causal else reach
    distance = torch.arange(-reach, after + 1, device=q.device).abs()
    (span,) = wide(span)
    z = max_span * span.clamp(0, 1)[:, None]  # (H, 1)
    soft = ((ramp + z - distance) / ramp).clamp(0, 1)  # (H, reach + 1 + after)
    # Where m is 0 its logarithm must have no gradient either.
    outside = soft == 0
    bias = soft.masked_fill(outside, 1.0).log().masked_fill(outside, hidden_score(span.dtype))
    output, _ = banded_attention(
        q, k, v, before=reach, after=after, keys=mask, scale=scale, bias=bias
    )
    return output.to(q.dtype)


def parameters(
    shape: Shape, generator: torch.Generator | None, max_span: int, ramp: int
) -> Mapping[str, torch.Tensor]:
    """A span for each head, as a share of the largest: heads begin with different ones."""
    return {"span": nn.Parameter(torch.rand(shape.heads, generator=generator))}


def supports(case: Case) -> str | None:
    """A ramp of no width has no slope to learn from."""
    return None if int(case.options["ramp"]) >= 1 else "ramp must be at least 1"


def flops(case: Case) -> float:
    """Two products of every query with the keys within the largest span."""
    shape = case.attention_shape
    reach = int(case.options["max_span"]) + int(case.options["ramp"]) - 1
    keys = min(shape.k_len, 1 + reach + (0 if case.causal else reach))
    return 2.0 * shape.batch * shape.heads * shape.q_len * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Adaptive span."""
    yield Attention(
        "adaptive_span",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "chunked": Forward(
                chunked,
                supports=supports,
                masks="keys",
                complexity="N",
                memory="N",
                flops=flops,
            ),
        },
        options={"max_span": 96, "ramp": 32},
        parameters=parameters,
        identities=(
            Identity(
                "span = N",
                options=lambda shape: {"max_span": max(shape.q_len, shape.k_len)},
                tensors=lambda shape: {"span": torch.ones(shape.heads)},
                equals="scaled_dot_product",
                unless=lambda shape: {"max_span": shape.k_len // 4, "ramp": 2},
            ),
        ),
        metadata=Metadata(
            title="Adaptive attention span",
            summary="Each head learns how far back it looks, with a soft edge.",
            formula=r"a_{ij} = \frac{m_z(i-j)\, e^{s_{ij}}}{\sum_{j'} m_z(i-j')\, e^{s_{ij'}}},"
            r"\quad m_z(x) = \min\!\left(\max\!\left(\frac{R + z - x}{R}, 0\right), 1\right)",
            strengths=(
                "heads that need little context cost little of it",
                "the span is learned with the rest, by gradient",
            ),
            weaknesses=(
                "computed at the largest span unless spans are read out and cut",
                "a span that is too short has a gradient from its ramp alone",
            ),
            use_when="It is not known how far each head should look.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "self",
                "cross",
                "local",
                "dynamic",
                "efficient",
                "long_context",
                "language",
            ),
            section="dynamic",
            paper=Paper(
                title="Adaptive Attention Span in Transformers",
                authors=(
                    "Sainbayar Sukhbaatar",
                    "Edouard Grave",
                    "Piotr Bojanowski",
                    "Armand Joulin",
                ),
                year=2019,
                url="https://arxiv.org/abs/1905.07799",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
        ),
    )
