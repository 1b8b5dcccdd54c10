"""Gated linear attention (Yang et al., 2023, sections 4.1 to 4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff import Attention, Case, Forward, Metadata, Paper, Shape, hookimpl
from bakeoff.plugins.attention._linear import (
    chunk_size,
    decayed_states,
    in_chunks,
    visible,
)
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    log_gate: torch.Tensor,  # (B, H, Nk, D), log α in the paper, at most 0
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """S_t = diag(α_t) S_{t−1} + k_t v_tᵀ and o_t = S_tᵀ q_t, equation 3, token by token.

    A key that the mask hides is not written; time goes on, and its gate applies.
    """
    (batch, heads, q_len, dim), k_len, dtype = q.shape, k.shape[2], q.dtype
    q, k, v, log_gate = wide(q, k, v, log_gate)
    q = q * (1 / math.sqrt(dim) if scale is None else scale)
    if mask is not None:
        k = k.where(mask.broadcast_to(batch, heads, 1, k_len).mT, 0.0)
    state = q.new_zeros(batch, heads, dim, v.shape[-1])
    blind = max(0, q_len - k_len)  # queries that see no key
    rows = [q.new_zeros(batch, heads, blind, v.shape[-1])]
    for t in range(k_len):
        write = k[:, :, t, :, None] * v[:, :, t, None]  # (B, H, D, Dv)
        state = log_gate[:, :, t, :, None].exp() * state + write
        row = t - (k_len - q_len)
        if row >= 0:
            rows.append(q[:, :, row, None] @ state)
    return torch.cat(rows, 2).to(dtype)


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    log_gate: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """The chunkwise form of section 4.2: products of matrices alone."""
    before = max(0, k.shape[2] - q.shape[2])  # keys that every query sees
    blind = max(0, q.shape[2] - k.shape[2])  # queries that see no key
    k, state = visible(k, mask), None
    if before:
        first_k, first_v, gates = wide(k[:, :, :before], v[:, :, :before], log_gate[:, :, :before])
        state = (first_k * _to_end(gates).exp()).mT @ first_v
    rest = (k[:, :, before:], v[:, :, before:], log_gate[:, :, before:])
    output, _ = _scan(q[:, :, blind:], *rest, scale, state)
    return F.pad(output, (0, 0, blind, 0))


def recurrence(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: torch.Tensor | None = None,  # (B, H, D, Dv)
    *,
    log_gate: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The state S of equation 3, a chunk at a time."""
    return _scan(q, visible(k, mask), v, log_gate, scale, state)


def _scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_gate: torch.Tensor,
    scale: float | None,
    state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype, length = q.dtype, q.shape[2]
    # What fills up the last chunk has no gate, and makes nothing older.
    q, k, v, gates = (in_chunks(x) for x in wide(q, k, v, log_gate))
    q = q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    to_here = gates.cumsum(3)  # (B, H, chunks, chunk, D)
    added = (k * _to_end(gates).exp()).mT @ v
    earlier, last = decayed_states(added, to_here[..., -1, :, None].exp(), state)
    output = _within(q, k, gates) @ v + (q * to_here.exp()) @ earlier
    return output.flatten(2, 3)[:, :, :length].to(dtype), last


def _to_end(gates: torch.Tensor) -> torch.Tensor:
    """The sum of the gates after each position, up to the end of the sequence or chunk."""
    return F.pad(gates[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)


def _within(q: torch.Tensor, k: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """The weights of the pairs within each chunk, (…, chunk, chunk).

    Blocks are joined two and two: queries of the later one decay from where it begins, keys of the
    earlier one up to there. No exponent is positive, so that no gate is too strong; the paper does
    as much with two levels (section 4.3).
    """
    size, dim = q.shape[-2:]
    blocks = (q * k).sum(-1)[..., None, None]  # (…, size, 1, 1): each position by itself
    half = 1
    while half < size:
        later, earlier = (
            x.reshape(*x.shape[:-2], size // (2 * half), 2, half, dim).select(-3, index)
            for x, index in ((q, 1), (k, 0))
        )
        both = gates.reshape(*gates.shape[:-2], size // (2 * half), 2, half, dim)
        since = both.select(-3, 1).cumsum(-2)  # from the start of the later block, included
        until = _to_end(both.select(-3, 0))
        corner = (later * since.exp()) @ (earlier * until.exp()).mT
        pairs = blocks.reshape(*blocks.shape[:-3], size // (2 * half), 2, half, half)
        upper = F.pad(pairs.select(-3, 0), (0, half))
        blocks = torch.cat([upper, torch.cat([corner, pairs.select(-3, 1)], -1)], -2)
        half *= 2
    return blocks[..., 0, :, :]


def inputs(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """log σ(z)/16, as the paper makes α = σ(z)^(1/16) from the input, section 4.4."""
    drawn = torch.randn(shape.batch, shape.heads, shape.k_len, shape.head_dim, generator=generator)
    return {"log_gate": F.logsigmoid(drawn) / 16}


def flops(case: Case) -> float:
    """A D × Dv state made and read, and the pairs within chunks, each weighed once."""
    shape = case.attention_shape
    seen = min(shape.q_len, shape.k_len)
    chunk = chunk_size(seen)
    pairs = seen * ((chunk - 1) / 2 * shape.head_dim + chunk * shape.value_dim)
    states = (seen + shape.k_len) * shape.head_dim * shape.value_dim
    return 2.0 * shape.batch * shape.heads * (pairs + states)


def reference_flops(case: Case) -> float:
    """A product of a row with the state for each query."""
    shape = case.attention_shape
    seen = min(shape.q_len, shape.k_len)
    return 2.0 * shape.batch * shape.heads * seen * shape.head_dim * shape.value_dim


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Gated linear attention."""
    yield Attention(
        "gated_linear",
        forwards={
            "reference": Forward(
                reference, masks="keys", complexity="N", memory="N", flops=reference_flops
            ),
            "chunked": Forward(chunked, masks="keys", complexity="N", memory="N", flops=flops),
        },
        inputs=inputs,
        recurrence=recurrence,
        metadata=Metadata(
            title="Gated linear attention (GLA)",
            summary="Linear attention whose state fades feature by feature, as the input says.",
            formula=r"S_t = \operatorname{diag}(\alpha_t) S_{t-1} + k_t v_t^\top,\quad "
            r"o_t = S_t^\top q_t / \sqrt{D}",
            strengths=(
                "it forgets what the input tells it to",
                "a state of fixed size when generating",
            ),
            weaknesses=(
                "gates within a chunk cost several passes",
                "the state holds as many facts as it has rows",
            ),
            use_when="Language models over long texts that must run as recurrent networks.",
            tags=(
                "kernel",
                "gated",
                "self",
                "dynamic",
                "efficient",
                "recurrent",
                "long_context",
                "language",
            ),
            section="beyond the textbook",
            paper=Paper(
                title="Gated Linear Attention Transformers with Hardware-Efficient Training",
                authors=(
                    "Songlin Yang",
                    "Bailin Wang",
                    "Yikang Shen",
                    "Rameswar Panda",
                    "Yoon Kim",
                ),
                year=2023,
                url="https://arxiv.org/abs/2312.06635",
            ),
            properties={
                "row_stochastic": False,
                "stochastic": False,
                "differentiable": True,
                "patterns": ("causal_self", "causal_cross", "decode"),
            },
            unused=("causal",),
        ),
    )
