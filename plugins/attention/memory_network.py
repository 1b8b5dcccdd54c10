"""End-to-end memory network (Sukhbaatar et al., 2015, section 2): several hops over a memory."""

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
    q: torch.Tensor,  # (B, H, Nq, D), the state u of each query
    k: torch.Tensor,  # (B, H, Nk, D), input memory m of the sequence
    v: torch.Tensor,  # (B, H, Nk, Dv), output memory c of the sequence
    *,
    hops: int,
    slots: int,
    memory_keys: torch.Tensor,  # (B, H, M, D), input memory m given beside
    memory_values: torch.Tensor,  # (B, H, M, Dv), output memory c given beside
    w_hop: torch.Tensor,  # (D, D), H of section 2.2
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """o = softmax(u mᵀ / √D) c, then u ← H u + o, hop after hop; the last o is the output.

    Weights are tied over the hops, as in the paper's layer-wise tying. The given memory is for
    all queries; mask and ``causal`` hide keys of the sequence only. The paper has no scale.
    """
    dtype = q.dtype
    q, k, v, memory_keys, memory_values, w_hop = wide(q, k, v, memory_keys, memory_values, w_hop)
    memory, outputs = torch.cat([memory_keys, k], 2), torch.cat([memory_values, v], 2)
    allowed = prefix_allowed(memory_keys.shape[2], q, k, mask, causal)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    state = q
    for hop in range(hops):
        read = masked_softmax(state @ memory.mT * scale, allowed) @ outputs
        if hop < hops - 1:
            state = state @ w_hop.mT + read
    return read.to(dtype)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    hops: int,
    slots: int,
    memory_keys: torch.Tensor,
    memory_values: torch.Tensor,
    w_hop: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The same hops, each with torch's fused attention.

    Half precision is computed on in float32: what one hop's backward rounds the next ones enlarge,
    and with large inputs it leaves the range of float16 where the exact gradient does not.
    """
    dtype = q.dtype
    q, k, v, memory_keys, memory_values, w_hop = wide(q, k, v, memory_keys, memory_values, w_hop)

    def read(state: torch.Tensor) -> torch.Tensor:
        return attention_with_prefix(state, k, v, memory_keys, memory_values, mask, causal, scale)

    for _ in range(hops - 1):
        q = q @ w_hop.mT + read(q)
    return read(q).to(dtype)


def parameters(
    shape: Shape, generator: torch.Generator | None, *, hops: int, slots: int
) -> Mapping[str, torch.Tensor]:
    """H, shared by the heads: normal with variance 1/D."""
    weight = torch.randn(shape.head_dim, shape.head_dim, generator=generator)
    return {"w_hop": nn.Parameter(weight / math.sqrt(shape.head_dim))}


def inputs(
    shape: Shape, generator: torch.Generator | None, *, hops: int, slots: int
) -> Mapping[str, torch.Tensor]:
    """A memory of its own for each example."""

    def normal(size: int) -> torch.Tensor:
        return torch.randn(shape.batch, shape.heads, slots, size, generator=generator)

    return {"memory_keys": normal(shape.head_dim), "memory_values": normal(shape.value_dim)}


def supports(case: Case) -> str | None:
    """What was read is added to the state of the query, and there must be a hop."""
    shape, hops = case.attention_shape, case.options["hops"]
    if hops < 1:
        return f"it needs at least one hop, and there are {hops}"
    if hops > 1 and shape.head_dim != shape.value_dim:
        return (
            "what a hop reads is added to the query, so they must have one size, and there are "
            f"{shape.value_dim} and {shape.head_dim}"
        )
    return None


def flops(case: Case) -> float:
    """For each hop attention over keys and memory, and between hops the product with H."""
    shape, hops = case.attention_shape, int(case.options["hops"])
    rows = 2.0 * shape.batch * shape.heads * shape.q_len
    beside = rows * int(case.options["slots"]) * (shape.head_dim + shape.value_dim)
    return hops * (pair_flops(case) + beside) + (hops - 1) * rows * shape.head_dim**2


def _no_memory(shape: Shape) -> Mapping[str, torch.Tensor]:
    sizes = {"memory_keys": shape.head_dim, "memory_values": shape.value_dim}
    return {n: torch.empty(shape.batch, shape.heads, 0, size) for n, size in sizes.items()}


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Memory network."""
    yield Attention(
        "memory_network",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=flops
            ),
            "sdpa": Forward(sdpa, supports=supports, complexity="N^2", memory="N", flops=flops),
        },
        options={"hops": 3, "slots": 32},
        parameters=parameters,
        inputs=inputs,
        identities=(
            Identity(
                "one hop, no memory",
                options=lambda shape: {"hops": 1},
                tensors=_no_memory,
                equals="scaled_dot_product",
                unless=lambda shape: {"hops": 1},
            ),
        ),
        metadata=Metadata(
            title="End-to-end memory network",
            summary="The query reads a memory several times and changes with what it has read.",
            formula=r"o^t = \sum_j \operatorname{softmax}_j(u^t \cdot m_j)\, c_j,\quad "
            r"u^{t+1} = H u^t + o^t,\quad u^1 = q",
            strengths=(
                "chains facts: what one hop finds tells the next what to look for",
                "the memory is given per example and may be of any size",
            ),
            weaknesses=("each hop costs a whole attention", "hops can't run side by side"),
            use_when="Questions whose answer takes several facts out of a store.",
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
                title="End-To-End Memory Networks",
                authors=(
                    "Sainbayar Sukhbaatar",
                    "Arthur Szlam",
                    "Jason Weston",
                    "Rob Fergus",
                ),
                year=2015,
                url="https://arxiv.org/abs/1503.08895",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
