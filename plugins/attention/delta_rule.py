"""The delta rule (Schlag et al., 2021, equation 24; Yang et al., 2024, sections 2.2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff import Attention, Case, Forward, Metadata, Paper, Shape, hookimpl
from bakeoff.plugins.attention._linear import chunk_size, in_chunks
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    beta: torch.Tensor,  # (B, H, Nk)
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """S_t = S_{t−1} + β_t k_t (v_t − S_{t−1}ᵀ k_t)ᵀ and o_t = S_tᵀ q_t, token by token.

    q and k are divided by their norms (Yang et al., section 3.3): the state then stays bounded for
    β up to 2. A key that the mask hides is not written.
    """
    (batch, heads, q_len, dim), k_len, dtype = q.shape, k.shape[2], q.dtype
    q, k, v, beta = wide(q, k, v, beta)
    query = q / q.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    query = query * (1 / math.sqrt(dim) if scale is None else scale)
    key = k / k.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    if mask is not None:
        beta = beta.where(mask.broadcast_to(batch, heads, 1, k_len)[:, :, 0], 0.0)
    state = q.new_zeros(batch, heads, dim, v.shape[-1])
    blind = max(0, q_len - k_len)  # queries that see no key
    rows = [q.new_zeros(batch, heads, blind, v.shape[-1])]
    for t in range(k_len):
        old = (key[:, :, t, None] @ state)[:, :, 0]  # (B, H, Dv)
        change = beta[:, :, t, None] * (v[:, :, t] - old)
        state = state + key[:, :, t, :, None] * change[:, :, None]
        row = t - (k_len - q_len)
        if row >= 0:
            rows.append(query[:, :, row, None] @ state)
    return torch.cat(rows, 2).to(dtype)


def chunked(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    beta: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """Chunks in the WY form (Yang et al., section 3.2): a triangular system in each."""
    before = max(0, k.shape[2] - q.shape[2])  # keys that every query sees
    blind = max(0, q.shape[2] - k.shape[2])  # queries that see no key
    beta, state = _shown(beta, k, mask), None
    if before:
        _, _, _, state = _states(k[:, :, :before], v[:, :, :before], beta[:, :, :before], None)
    rest = (k[:, :, before:], v[:, :, before:], beta[:, :, before:])
    output, _ = _scan(q[:, :, blind:], *rest, scale, state)
    return F.pad(output, (0, 0, blind, 0))


def recurrence(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: torch.Tensor | None = None,  # (B, H, D, Dv)
    *,
    beta: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The fast weights S, a chunk at a time."""
    return _scan(q, k, v, _shown(beta, k, mask), scale, state)


def _shown(beta: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """β, zero where the mask hides the key."""
    if mask is None:
        return beta
    return beta.masked_fill(~mask.broadcast_to(*k.shape[:2], 1, k.shape[2])[:, :, 0], 0.0)


def _scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    scale: float | None,
    state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype, length = q.dtype, q.shape[2]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    key, changes, earlier, last = _states(k, v, beta, state)
    (query,) = wide(q)
    query = in_chunks(F.normalize(query, dim=-1) * scale)
    output = (query @ key.mT).tril_() @ changes + query @ earlier
    return output.flatten(2, 3)[:, :, :length].to(dtype), last


def _states(
    k: torch.Tensor, v: torch.Tensor, beta: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys in chunks, what is written for each, the states before the chunks, and the last.

    The changes u_t = β_t (v_t − S_{t−1}ᵀ k_t) of a chunk solve (I + A) u = β (v − k S) with S the
    state before it and A = tril(β k kᵀ, −1). The system is solved for all chunks at once, with
    β v and β k on the right; only the states go from chunk to chunk.
    """
    key, value, weight = wide(k, v, beta[..., None])
    key, value, weight = (in_chunks(x) for x in (F.normalize(key, dim=-1), value, weight))
    weighted = weight * key
    system = (weighted @ key.mT).tril_(-1)  # the diagonal of ones is implied
    right = torch.cat([weight * value, weighted], -1)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    own, seen = solved.split((v.shape[-1], k.shape[-1]), -1)
    last = torch.zeros_like(key[:, :, 0].mT @ value[:, :, 0]) if state is None else state
    earlier, changes = [], []
    # unbind, and no index: the backward of each index would fill a whole tensor with zeros.
    for rows, new, old in zip(key.unbind(2), own.unbind(2), seen.unbind(2), strict=True):
        earlier.append(last)
        changes.append(new - old @ last)
        last = last + rows.mT @ changes[-1]
    return key, torch.stack(changes, 2), torch.stack(earlier, 2), last


def inputs(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """σ(z): how much of the old value is replaced."""
    drawn = torch.randn(shape.batch, shape.heads, shape.k_len, generator=generator)
    return {"beta": drawn.sigmoid()}


def flops(case: Case) -> float:
    """Keys with keys, changes with states, states made and read, pairs within chunks; the
    triangular systems come on top."""
    shape = case.attention_shape
    seen = min(shape.q_len, shape.k_len)
    both, chunk = shape.head_dim * shape.value_dim, chunk_size(seen)
    keys = shape.k_len * (chunk * shape.head_dim + 2 * both)
    queries = seen * (chunk * (shape.head_dim + shape.value_dim) + both)
    return 2.0 * shape.batch * shape.heads * (keys + queries)


def reference_flops(case: Case) -> float:
    """A row with the state for each key, and for each query."""
    shape = case.attention_shape
    rows = shape.k_len + min(shape.q_len, shape.k_len)
    return 2.0 * shape.batch * shape.heads * rows * shape.head_dim * shape.value_dim


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """The delta rule."""
    yield Attention(
        "delta_rule",
        forwards={
            "reference": Forward(
                reference, masks="keys", complexity="N", memory="N", flops=reference_flops
            ),
            "chunked": Forward(chunked, masks="keys", complexity="N", memory="N", flops=flops),
        },
        inputs=inputs,
        recurrence=recurrence,
        metadata=Metadata(
            title="Delta rule (DeltaNet)",
            summary="A linear memory that replaces what it holds under a key instead of adding.",
            formula=r"S_t = S_{t-1} + \beta_t k_t (v_t - S_{t-1}^\top k_t)^\top,\quad "
            r"o_t = S_t^\top q_t / \sqrt{D}",
            strengths=(
                "recalls associations far better than a sum",
                "a state of fixed size when generating",
            ),
            weaknesses=(
                "the states of chunks follow one after another",
                "nothing fades by itself",
            ),
            use_when="Recurrent language models that must look things up in their context.",
            tags=(
                "kernel",
                "self",
                "memory",
                "dynamic",
                "efficient",
                "recurrent",
                "long_context",
                "language",
            ),
            section="beyond the textbook",
            paper=Paper(
                title="Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
                authors=(
                    "Songlin Yang",
                    "Bailin Wang",
                    "Yu Zhang",
                    "Yikang Shen",
                    "Yoon Kim",
                ),
                year=2024,
                url="https://arxiv.org/abs/2406.06484",
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
