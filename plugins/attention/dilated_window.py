"""Dilated sliding-window attention (Beltagy et al., 2020, section 3.1)."""

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
from bakeoff.plugins.attention._parts import interleaved, of_residues
from bakeoff.registry.layout import pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    window: int,
    dilation: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to |i − j| = 0, d, 2d, …, w·d; places are aligned lower right."""
    q, k, v = map(pack_rows, (q, k, v))
    q_len, k_len = q.shape[-2], k.shape[-2]
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    distance = (i - torch.arange(k_len, device=q.device)).abs()  # (Nq, Nk)
    near = (distance <= window * dilation) & (distance % dilation == 0)
    allowed = near if mask is None else near & mask
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, allowed, causal)) @ v


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    dilation: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Places of one residue by d see each other alone: a plain window over each of d sequences."""
    batch, heads, k_len = k.shape[:3]
    keys = torch.ones(1, 1, 1, k_len, dtype=torch.bool, device=q.device) if mask is None else mask
    keys = of_residues(keys.expand(batch, heads, 1, k_len).mT, dilation).mT
    output, _ = banded_attention(
        of_residues(q, dilation),
        of_residues(k, dilation),
        of_residues(v, dilation),
        before=window,
        after=0 if causal else window,
        keys=keys,
        scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale,
    )
    return interleaved(output, dilation, q.shape[2]).to(q.dtype)


def supports(case: Case) -> str | None:
    """A distance of zero between neighbours means nothing."""
    return None if int(case.options["dilation"]) >= 1 else "dilation must be at least 1"


def flops(case: Case) -> float:
    """Two products of every query with the keys in its window, as if no key were out of reach."""
    shape = case.attention_shape
    window, dilation = int(case.options["window"]), int(case.options["dilation"])
    keys = min(-(-shape.k_len // dilation), 1 + window + (0 if case.causal else window))
    return 2.0 * shape.batch * shape.heads * shape.q_len * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Dilated window."""
    yield Attention(
        "dilated_window",
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
        options={"window": 64, "dilation": 2},
        identities=(
            Identity(
                "window >= N, dilation = 1",
                options=lambda shape: {"window": max(shape.q_len, shape.k_len), "dilation": 1},
                equals="scaled_dot_product",
                unless=lambda shape: {"window": shape.k_len, "dilation": 2},
            ),
            Identity(
                "dilation = 1",
                options=lambda shape: {"window": 128, "dilation": 1},
                equals="sliding_window",
                unless=lambda shape: {"window": 128, "dilation": 3},
            ),
        ),
        metadata=Metadata(
            title="Dilated sliding-window attention",
            summary="A window with gaps: each query attends to every d-th key near it.",
            formula=r"o_i = \sum_{|i-j| \in \{0, d, \dots, wd\}} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=(
                "reaches d times as far as a window of the same cost",
                "FLOPs and memory grow linearly with the length",
            ),
            weaknesses=(
                "with one dilation everywhere, places of different residue never meet",
                "the nearest neighbours are skipped",
            ),
            use_when="Some heads of a model with windows should look farther at the same cost.",
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
