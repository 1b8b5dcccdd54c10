"""Attention with persistent memory (Sukhbaatar et al., 2019, section 4.1, equations 9 to 11)."""

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
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._precision import wide
from bakeoff.plugins.attention._prefix import attention_with_prefix, prefix_allowed


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    slots: int,
    slot_keys: torch.Tensor,  # (H, M, D)
    slot_values: torch.Tensor,  # (H, M, Dv)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q [M_k; k]ᵀ / √D) [M_v; v]: slots that every query sees, whatever the mask."""
    batch, dtype = q.shape[0], q.dtype
    q, k, v, slot_keys, slot_values = wide(q, k, v, slot_keys, slot_values)
    all_k = torch.cat([slot_keys.expand(batch, -1, -1, -1), k], 2)
    all_v = torch.cat([slot_values.expand(batch, -1, -1, -1), v], 2)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ all_k.mT * scale  # (B, H, Nq, M + Nk)
    allowed = prefix_allowed(slot_keys.shape[1], q, k, mask, causal)
    return (masked_softmax(scores, allowed) @ all_v).to(dtype)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    slots: int,
    slot_keys: torch.Tensor,
    slot_values: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention to slots and keys together."""
    prefix_k, prefix_v = (t.expand(q.shape[0], -1, -1, -1) for t in (slot_keys, slot_values))
    return attention_with_prefix(q, k, v, prefix_k, prefix_v, mask, causal, scale)


def parameters(
    shape: Shape, generator: torch.Generator | None, *, slots: int
) -> Mapping[str, torch.Tensor]:
    """Standard normal, which is what the authors' rescaled vectors begin as."""

    def normal(size: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(shape.heads, slots, size, generator=generator))

    return {"slot_keys": normal(shape.head_dim), "slot_values": normal(shape.value_dim)}


def flops(case: Case) -> float:
    """The two products of attention, over the visible keys and the slots."""
    shape = case.attention_shape
    rows = 2.0 * shape.batch * shape.heads * shape.q_len * int(case.options["slots"])
    return pair_flops(case) + rows * (shape.head_dim + shape.value_dim)


def _no_slots(shape: Shape) -> Mapping[str, torch.Tensor]:
    return {
        "slot_keys": torch.empty(shape.heads, 0, shape.head_dim),
        "slot_values": torch.empty(shape.heads, 0, shape.value_dim),
    }


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Attention with persistent memory."""
    yield Attention(
        "persistent_memory",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=flops),
        },
        options={"slots": 64},
        parameters=parameters,
        identities=(Identity("no slots", tensors=_no_slots, equals="scaled_dot_product"),),
        metadata=Metadata(
            title="Attention with persistent memory",
            summary="Learned keys and values, of no input, join those of the sequence.",
            formula=r"o_i = \sum_{j \in [M; N]} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j",
            strengths=(
                "holds general knowledge beside the context",
                "can take the place of the feed-forward layers",
            ),
            weaknesses=("many slots are needed to replace a feed-forward layer",),
            use_when="One kind of layer is to do the work of attention and feed-forward both.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "memory",
                "self",
                "cross",
                "global",
                "language",
            ),
            section="memory-augmented",
            paper=Paper(
                title="Augmenting Self-attention with Persistent Memory",
                authors=(
                    "Sainbayar Sukhbaatar",
                    "Edouard Grave",
                    "Guillaume Lample",
                    "Herve Jegou",
                    "Armand Joulin",
                ),
                year=2019,
                url="https://arxiv.org/abs/1907.01470",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
