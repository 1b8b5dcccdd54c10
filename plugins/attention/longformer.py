"""Longformer: a sliding window and global tokens (Beltagy et al., 2020, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
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
    global_tokens: int,
    w_query: torch.Tensor,  # (H·D, H·D)
    w_key: torch.Tensor,  # (H·D, H·D)
    w_value: torch.Tensor,  # (H·Dv, H·Dv)
    b_query: torch.Tensor,  # (H·D,)
    b_key: torch.Tensor,  # (H·D,)
    b_value: torch.Tensor,  # (H·Dv,)
    w_query_global: torch.Tensor,  # (H·D, H·D)
    w_key_global: torch.Tensor,  # (H·D, H·D)
    w_value_global: torch.Tensor,  # (H·Dv, H·Dv)
    b_query_global: torch.Tensor,  # (H·D,)
    b_key_global: torch.Tensor,  # (H·D,)
    b_value_global: torch.Tensor,  # (H·Dv,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to the window and the global keys; global queries see every key.

    "Linear Projections for Global Attention" of section 3.1: queries that are global attend with
    projections of their own, to keys and values with projections of their own. The first
    ``global_tokens`` places are global; the heads of q, k and v are read as the features of a row.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    q_len, k_len = q.shape[-2], k.shape[-2]
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    near = ((i - j).abs() <= window) | (j < global_tokens)  # (Nq, Nk)
    query, key, value = (
        _project(x, weight, bias)
        for x, weight, bias in ((q, w_query, b_query), (k, w_key, b_key), (v, w_value, b_value))
    )
    allowed = allowed_keys(q, k, near if mask is None else near & mask, causal)
    local = masked_softmax(query @ key.mT * scale, allowed) @ value
    query = _project(q, w_query_global, b_query_global)
    key = _project(k, w_key_global, b_key_global)
    value = _project(v, w_value_global, b_value_global)
    everywhere = masked_softmax(query @ key.mT * scale, allowed_keys(q, k, mask, causal)) @ value
    return torch.where((i >= 0) & (i < global_tokens), everywhere, local)


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    global_tokens: int,
    w_query: torch.Tensor,
    w_key: torch.Tensor,
    w_value: torch.Tensor,
    b_query: torch.Tensor,
    b_key: torch.Tensor,
    b_value: torch.Tensor,
    w_query_global: torch.Tensor,
    w_key_global: torch.Tensor,
    w_value_global: torch.Tensor,
    b_query_global: torch.Tensor,
    b_key_global: torch.Tensor,
    b_value_global: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Blocks of queries against their windows, all of them against the global keys; then the few
    global queries against every key.
    """
    q_len, k_len = q.shape[2], k.shape[2]
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    query, key = _project(q, w_query, b_query), _project(k, w_key, b_key)
    value = _project(v, w_value, b_value)
    others = j >= global_tokens
    near = banded_attention(
        query,
        key,
        value,
        before=window,
        after=0 if causal else window,
        keys=others if mask is None else others & mask,
        scale=scale,
    )
    seen = None if mask is None else mask[..., :global_tokens]
    if causal:
        past = i >= j[:global_tokens]
        seen = past if seen is None else past & seen
    first = key[:, :, :global_tokens], value[:, :, :global_tokens]
    local, _ = merged(near, dense_part(query, *first, allowed=seen, scale=scale))
    local = local.to(q.dtype)

    # The rows whose places are from 0 to global_tokens − 1.
    start = min(q_len, max(0, q_len - k_len))
    stop = max(start, min(q_len, global_tokens + q_len - k_len))
    if start == stop:
        return local
    seen = mask
    if causal:
        seen = i[start:stop] >= j
        seen = seen if mask is None else seen & mask
    everywhere, _ = dense_part(
        _project(q[:, :, start:stop], w_query_global, b_query_global),
        _project(k, w_key_global, b_key_global),
        _project(v, w_value_global, b_value_global),
        allowed=seen,
        scale=scale,
    )
    return torch.cat([local[:, :, :start], everywhere.to(q.dtype), local[:, :, stop:]], 2)


def _project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear layer over all heads of a position: (B, H, N, D) -> (B, H, N, D)."""
    batch, heads, length, dim = x.shape
    rows = pack_rows(x.transpose(1, 2).reshape(batch, length, heads * dim))
    rows = F.linear(rows, pack_rows(weight), bias)
    return pack_rows(rows.view(batch, length, heads, dim).transpose(1, 2))


def parameters(
    shape: Shape, generator: torch.Generator | None, window: int, global_tokens: int
) -> Mapping[str, torch.Tensor]:
    """Xavier's uniform weights and zero biases; the global ones begin as copies of the others."""
    keys, values = shape.heads * shape.head_dim, shape.heads * shape.value_dim
    drawn: dict[str, torch.Tensor] = {}
    for name, size in (("query", keys), ("key", keys), ("value", values)):
        weight = torch.empty(size, size)
        nn.init.xavier_uniform_(weight, generator=generator)
        for which in (name, f"{name}_global"):
            drawn[f"w_{which}"] = nn.Parameter(weight.clone())
            drawn[f"b_{which}"] = nn.Parameter(torch.zeros(size))
    return drawn


def _identity_weights(shape: Shape) -> Mapping[str, torch.Tensor]:
    names = ("query", "key", "value")
    eye = torch.eye(shape.heads * shape.head_dim)
    return {f"w_{name}{of}": eye for name in names for of in ("", "_global")}


def flops(case: Case) -> float:
    """The projections, every query with its window and the global keys, global ones with all."""
    shape = case.attention_shape
    window = int(case.options["window"])
    tokens = min(int(case.options["global_tokens"]), shape.k_len)
    near = min(shape.k_len, 1 + window + (0 if case.causal else window) + tokens)
    products = 2.0 * shape.batch * shape.heads * (shape.head_dim + shape.value_dim)
    pairs = products * near * shape.q_len
    return _projection_flops(case, shape.k_len - shape.q_len < tokens) + pairs


def reference_flops(case: Case) -> float:
    """All projections of every row, and both attentions over all pairs."""
    return _projection_flops(case, True) + 2 * pair_flops(case)


def _projection_flops(case: Case, any_global: bool) -> float:
    shape = case.attention_shape
    keys, values = shape.heads * shape.head_dim, shape.heads * shape.value_dim
    of_keys = 2.0 * shape.batch * shape.k_len * (keys**2 + values**2)
    return of_keys * (2 if any_global else 1) + 2.0 * shape.batch * shape.q_len * keys**2


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Longformer attention."""
    yield Attention(
        "longformer",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=reference_flops),
            "chunked": Forward(chunked, masks="keys", complexity="N", memory="N", flops=flops),
        },
        options={"window": 128, "global_tokens": 1},
        parameters=parameters,
        identities=(
            Identity(
                "window >= N, weights = identity",
                options=lambda shape: {"window": max(shape.q_len, shape.k_len)},
                tensors=_identity_weights,
                equals="scaled_dot_product",
            ),
            Identity(
                "all tokens global, weights = identity",
                options=lambda shape: {"window": 0, "global_tokens": shape.k_len},
                tensors=_identity_weights,
                equals="scaled_dot_product",
                unless=lambda shape: {"window": 0},
            ),
        ),
        metadata=Metadata(
            title="Longformer",
            summary="A sliding window, and a few global tokens that see all and are seen by all, "
            "with projections of their own.",
            formula=r"o_i = \begin{cases}\sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q^g_i \cdot k^g_j}{\sqrt{D}}\right) v^g_j & i < g \\"
            r"\sum_{|i-j| \le w \,\lor\, j < g} \operatorname{softmax}_j\!\left("
            r"\frac{q^s_i \cdot k^s_j}{\sqrt{D}}\right) v^s_j & i \ge g\end{cases}",
            strengths=(
                "any two tokens are two steps apart, through a global one",
                "FLOPs and memory grow linearly with the length",
            ),
            weaknesses=(
                "which tokens are global depends on the task",
                "six projections",
            ),
            use_when="Long documents with a token for the whole ([CLS]) or a question in front.",
            tags=(
                "dot_product",
                "soft",
                "self",
                "cross",
                "local",
                "sparse",
                "multi_head",
                "learnable",
                "efficient",
                "long_context",
                "language",
            ),
            section="sparse",
            paper=Paper(
                title="Longformer: The Long-Document Transformer",
                authors=("Iz Beltagy", "Matthew E. Peters", "Arman Cohan"),
                year=2020,
                url="https://arxiv.org/abs/2004.05150",
            ),
            properties={
                "row_stochastic": False,
                "stochastic": False,
                "differentiable": True,
                "relative": False,
            },
        ),
    )
