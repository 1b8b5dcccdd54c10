"""Retention (Sun et al., 2023, section 2.1, equations 5 to 8)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff import Attention, Case, Forward, Metadata, Paper, Shape, allowed_keys, hookimpl
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._linear import (
    decayed_states,
    in_chunks,
    scan_flops,
    visible,
)
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    log_forgotten: torch.Tensor,  # (H,), log2(1 − γ)
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """(q kᵀ / √D ⊙ γ^(i − j)) v over j ≤ i: the parallel form, equation 5.

    γ comes as the logarithm of what is forgotten in a step: rounded to half precision, γ itself
    would be 1 in most heads, and nothing forgotten. q and k come rotated, where a rotation Θ is
    wanted. The normalisation of each head belongs to the layer around it (equation 8), with the
    gate and the output projection.
    """
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v = wide(q, k, v)
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    decay = 1 - 2 ** log_forgotten[:, None, None].double()  # γ in the paper, (H, 1, 1)
    weights = decay ** (i - j).clamp(min=0)  # (H, Nq, Nk)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale * weights.to(q.dtype)
    allowed = allowed_keys(q, k, mask, causal=True)
    assert allowed is not None
    return (scores.masked_fill(~allowed, 0.0) @ v).to(dtype)


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    log_forgotten: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """The chunkwise form, equation 7."""
    before = max(0, k.shape[2] - q.shape[2])  # keys that every query sees
    blind = max(0, q.shape[2] - k.shape[2])  # queries that see no key
    state = None
    if before:
        first_k, first_v = wide(visible(k, mask)[:, :, :before], v[:, :, :before])
        age = torch.arange(before - 1, -1, -1, device=k.device)
        state = (first_k * _powers(log_forgotten, age, first_k)[..., None]).mT @ first_v
    shown = visible(k, mask)[:, :, before:]
    output, _ = _scan(q[:, :, blind:], shown, v[:, :, before:], log_forgotten, scale, state)
    return F.pad(output, (0, 0, blind, 0))


def recurrence(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: torch.Tensor | None = None,  # (B, H, D, Dv)
    *,
    log_forgotten: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """S_t = γ S_{t−1} + k_t v_tᵀ, equation 6, a chunk at a time."""
    return _scan(q, visible(k, mask), v, log_forgotten, scale, state)


def _scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_forgotten: torch.Tensor,
    scale: float | None,
    state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype, length = q.dtype, q.shape[2]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    q, k, v = (in_chunks(x) for x in wide(q, k, v))  # (B, H, chunks, chunk, ·)
    chunks, size = q.shape[2:4]
    place = torch.arange(size, device=q.device)
    # How many positions of each chunk there are: what fills up the last one makes nothing older.
    count = (length - size * torch.arange(chunks, device=q.device)).clamp(max=size)
    age = (count[:, None] - 1 - place).clamp(min=0)  # at the end of the chunk, (chunks, chunk)
    distance = place[:, None] - place
    within = _powers(log_forgotten, distance.clamp(min=0), q).tril()[
        :, :, None
    ]  # (1, H, 1, chunk, chunk)

    added = (k * _powers(log_forgotten, age, k)[..., None]).mT @ v  # (B, H, chunks, D, Dv)
    kept = _powers(log_forgotten, count, k)[..., None, None]
    earlier, last = decayed_states(added, kept, state)
    q = q * scale
    output = (q @ k.mT).mul_(within) @ v
    since = _powers(log_forgotten, place + 1, q)[:, :, None, :, None]
    output = output + (q * since) @ earlier
    return output.flatten(2, 3)[:, :, :length].to(dtype), last


def _powers(
    log_forgotten: torch.Tensor, exponents: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """Each head's γ to the exponents: (1, H, *exponents). Few numbers: they can be exact."""
    base = (1 - log_forgotten.double().exp2())[(...,) + (None,) * exponents.dim()]
    return (base**exponents)[None].to(like.dtype)


def parameters(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """γ = 1 − 2^(−5 − h) for head h, equation 8, as the exponent: a buffer that any dtype holds."""
    return {"log_forgotten": -5 - torch.arange(shape.heads, dtype=torch.float32)}


def flops(case: Case) -> float:
    """A D × Dv state made and read, and the pairs within chunks."""
    return scan_flops(case, case.attention_shape.head_dim, case.attention_shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Retention."""
    yield Attention(
        "retention",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "chunked": Forward(chunked, masks="keys", complexity="N", memory="N", flops=flops),
        },
        parameters=parameters,
        recurrence=recurrence,
        metadata=Metadata(
            title="Retention (RetNet)",
            summary="Linear attention without a normaliser whose memory fades, at a rate by head.",
            formula=r"o_i = \sum_{j \le i} \gamma^{i-j} \frac{q_i \cdot k_j}{\sqrt{D}} v_j",
            strengths=(
                "parallel to train, recurrent to generate at a constant cost",
                "heads see at different ranges",
            ),
            weaknesses=(
                "the rate does not depend on the input",
                "no normaliser: a norm has to follow",
            ),
            use_when="Language models that must generate long texts with little memory.",
            tags=(
                "kernel",
                "self",
                "positional",
                "efficient",
                "recurrent",
                "long_context",
                "language",
            ),
            section="beyond the textbook",
            paper=Paper(
                title="Retentive Network: A Successor to Transformer for Large Language Models",
                authors=(
                    "Yutao Sun",
                    "Li Dong",
                    "Shaohan Huang",
                    "Shuming Ma",
                    "Yuqing Xia",
                    "Jilong Xue",
                    "Jianyong Wang",
                    "Furu Wei",
                ),
                year=2023,
                url="https://arxiv.org/abs/2307.08621",
            ),
            properties={
                "row_stochastic": False,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
                "patterns": ("causal_self", "causal_cross", "decode"),
            },
            unused=("causal",),
        ),
    )
