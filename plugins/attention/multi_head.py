"""Multi-head attention with its projections (Vaswani et al., 2017, section 3.2.2)."""

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
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.registry.layout import pack_gradient, pack_rows


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    w_query: torch.Tensor,  # (H·D, H·D)
    w_key: torch.Tensor,  # (H·D, H·D)
    w_value: torch.Tensor,  # (H·Dv, H·Dv)
    w_output: torch.Tensor,  # (H·Dv, H·Dv)
    b_query: torch.Tensor,  # (H·D,)
    b_key: torch.Tensor,  # (H·D,)
    b_value: torch.Tensor,  # (H·Dv,)
    b_output: torch.Tensor,  # (H·Dv,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Concat(head_1, …, head_H) W_o, each head attending to its share of x W + b.

    The heads of q, k and v are read as the features of one row, (B, N, H·D).
    """
    heads = q.shape[1]
    projected = []
    for x, weight, bias in ((q, w_query, b_query), (k, w_key, b_key), (v, w_value, b_value)):
        rows, weight = pack_rows(x.transpose(1, 2).flatten(2)), pack_rows(weight)
        rows = torch.einsum("bnf,gf->bng", rows, weight) + bias
        projected.append([pack_rows(own) for own in rows.chunk(heads, -1)])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    allowed = allowed_keys(q, k, mask, causal)
    outputs = []
    for h, (query, key, value) in enumerate(zip(*projected, strict=True)):
        own = allowed
        if allowed is not None and allowed.dim() == 4:
            own = allowed[:, h if allowed.shape[1] > 1 else 0]
        output = masked_softmax(query @ key.mT * scale, own) @ value  # (B, Nq, Dv)
        outputs.append(pack_gradient(output))
    merged = torch.einsum("bnf,gf->bng", torch.cat(outputs, -1), pack_rows(w_output)) + b_output
    return torch.stack(merged.chunk(heads, -1), 1)  # (B, H, Nq, Dv)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    w_query: torch.Tensor,
    w_key: torch.Tensor,
    w_value: torch.Tensor,
    w_output: torch.Tensor,
    b_query: torch.Tensor,
    b_key: torch.Tensor,
    b_value: torch.Tensor,
    b_output: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Three projections, torch's fused attention over all heads at once, one projection."""
    q = _project(q, w_query, b_query)
    k = _project(k, w_key, b_key)
    v = _project(v, w_value, b_value)
    return _project(fused_attention(q, k, v, mask, causal, scale), w_output, b_output)


def _project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear layer over all heads of a position: (B, H, N, D) -> (B, H, N, D)."""
    batch, heads, length, dim = x.shape
    rows = pack_rows(x.transpose(1, 2).reshape(batch, length, heads * dim))
    rows = F.linear(rows, pack_rows(weight), bias)
    return rows.view(batch, length, heads, dim).transpose(1, 2)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Xavier's uniform weights and zero biases, as torch.nn.MultiheadAttention has them."""
    width = shape.heads * shape.head_dim
    sizes = dict.fromkeys(("query", "key"), width)
    sizes |= dict.fromkeys(("value", "output"), shape.heads * shape.value_dim)
    drawn = {}
    for name, size in sizes.items():
        weight = torch.empty(size, size)
        nn.init.xavier_uniform_(weight, generator=generator)
        drawn[f"w_{name}"] = nn.Parameter(weight)
        drawn[f"b_{name}"] = nn.Parameter(torch.zeros(size))
    return drawn


def _identity_weights(shape: Shape) -> Mapping[str, torch.Tensor]:
    names = ("query", "key", "value", "output")
    return {f"w_{name}": torch.eye(shape.heads * shape.head_dim) for name in names}


def flops(case: Case) -> float:
    """Four projections over all heads, and the two products of attention."""
    shape = case.attention_shape
    keys, values = shape.heads * shape.head_dim, shape.heads * shape.value_dim
    both = shape.q_len + shape.k_len
    return 2.0 * shape.batch * both * (keys**2 + values**2) + pair_flops(case)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Multi-head attention."""
    yield Attention(
        "multi_head",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=flops),
        },
        parameters=parameters,
        identities=(
            Identity(
                "weights = identity",
                tensors=_identity_weights,
                equals="scaled_dot_product",
            ),
        ),
        metadata=Metadata(
            title="Multi-head attention",
            summary="Several attentions side by side, each over its own projection of the input.",
            formula=r"\operatorname{Concat}(h_1, \dots, h_H) W_o,\quad "
            r"h_i = \operatorname{Attention}(Q W_q^i, K W_k^i, V W_v^i)",
            strengths=("heads attend to different things", "fused kernels everywhere"),
            weaknesses=("four projections", "FLOPs grow with the square of the length"),
            use_when="A whole attention layer is wanted, with its own weights.",
            tags=(
                "dot_product",
                "soft",
                "multi_head",
                "learnable",
                "self",
                "cross",
                "global",
                "language",
                "vision",
            ),
            section="scoring",
            paper=Paper(
                title="Attention Is All You Need",
                authors=(
                    "Ashish Vaswani",
                    "Noam Shazeer",
                    "Niki Parmar",
                    "Jakob Uszkoreit",
                    "Llion Jones",
                    "Aidan N. Gomez",
                    "Łukasz Kaiser",
                    "Illia Polosukhin",
                ),
                year=2017,
                url="https://arxiv.org/abs/1706.03762",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
