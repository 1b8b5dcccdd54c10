"""Strided sparse attention (Child et al., 2019, section 4.3)."""

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
from bakeoff.plugins.attention._parts import dense_part, interleaved, merged, of_residues
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    stride: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to the last l keys and to every l-th before them.

    The two patterns of section 4.3 in one head, "merged" as in section 5.1. A stride of 0 stands
    for √Nk, the length for which the paper has it. It is causal there; without ``causal`` the same
    holds on both sides.
    """
    q, k, v = map(pack_rows, (q, k, v))
    q_len, k_len = q.shape[-2], k.shape[-2]
    stride = stride or max(1, round(math.sqrt(k_len)))
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    distance = (i - torch.arange(k_len, device=q.device)).abs()  # (Nq, Nk)
    seen = (distance <= stride) | (distance % stride == 0)
    allowed = seen if mask is None else seen & mask
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, allowed, causal)) @ v


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    stride: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A window, and beyond it each residue of places by l as a short sequence of its own."""
    batch, heads, k_len, dim = k.shape
    stride = stride or max(1, round(math.sqrt(k_len)))
    scale = 1 / math.sqrt(dim) if scale is None else scale
    after = 0 if causal else stride
    near = banded_attention(q, k, v, before=stride, after=after, keys=mask, scale=scale)

    keys = torch.ones(1, 1, 1, k_len, dtype=torch.bool, device=q.device) if mask is None else mask
    query, key, value = (of_residues(x, stride) for x in (q, k, v))
    i = torch.arange(key.shape[2] - query.shape[2], key.shape[2], device=q.device)[:, None]
    steps = i - torch.arange(key.shape[2], device=q.device)
    beyond = (steps if causal else steps.abs()) > 1  # what is nearer, the window has seen
    allowed = beyond & of_residues(keys.expand(batch, heads, 1, k_len).mT, stride).mT
    output, total = dense_part(query, key, value, allowed=allowed, scale=scale)
    length = q.shape[2]
    far = interleaved(output, stride, length), interleaved(total, stride, length)
    return merged(near, far)[0].to(q.dtype)


def supports(case: Case) -> str | None:
    """A stride counts places."""
    return None if int(case.options["stride"]) >= 0 else "stride must not be negative"


def flops(case: Case) -> float:
    """Two products of every query with the window and with every l-th key."""
    shape = case.attention_shape
    stride = int(case.options["stride"]) or round(math.sqrt(shape.k_len))
    near = min(shape.k_len, 1 + stride + (0 if case.causal else stride))
    keys = min(shape.k_len, near + shape.k_len // stride)
    return 2.0 * shape.batch * shape.heads * shape.q_len * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Strided sparse attention."""
    yield Attention(
        "strided_sparse",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "chunked": Forward(
                chunked,
                supports=supports,
                masks="keys",
                complexity="N sqrt N",
                memory="N sqrt N",
                flops=flops,
            ),
        },
        options={"stride": 0},
        identities=(
            Identity(
                "stride = 1",
                options=lambda shape: {"stride": 1},
                equals="scaled_dot_product",
            ),
            Identity(
                "stride >= N",
                options=lambda shape: {"stride": max(shape.q_len, shape.k_len)},
                equals="scaled_dot_product",
                unless=lambda shape: {"stride": shape.k_len // 4},
            ),
        ),
        metadata=Metadata(
            title="Strided sparse attention",
            summary="Each query attends to the last √N keys and to every √N-th before them.",
            formula=r"o_i = \sum_{i-j \le l \,\lor\, (i-j) \bmod l = 0}"
            r"\operatorname{softmax}_j\!\left(\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j,"
            r"\quad l \approx \sqrt{N}",
            strengths=(
                "any two places are two steps apart",
                r"FLOPs grow with N √N",
            ),
            weaknesses=(
                "the stride must fit the data: rows of an image, bars of music",
                "with stride 0 it depends on the number of keys: padding counts, and a step of "
                "decoding is not a row of the causal pass; a fixed stride mends both",
            ),
            use_when="Data with a period: images as sequences of pixels, audio, music.",
            tags=(
                "dot_product",
                "soft",
                "self",
                "cross",
                "sparse",
                "efficient",
                "long_context",
                "vision",
                "language",
            ),
            section="sparse",
            paper=Paper(
                title="Generating Long Sequences with Sparse Transformers",
                authors=("Rewon Child", "Scott Gray", "Alec Radford", "Ilya Sutskever"),
                year=2019,
                url="https://arxiv.org/abs/1904.10509",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": False,
            },
        ),
    )
