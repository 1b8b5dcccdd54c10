"""What attention without a softmax shares: sums over keys are taken before a query is seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bakeoff import Case

__all__ = [
    "aligned_scan",
    "causal_scan",
    "chunk_size",
    "counted",
    "decayed_states",
    "in_chunks",
    "mean_of",
    "mean_product",
    "pairs_are_fewer",
    "product",
    "scan_flops",
    "visible",
]

#: Positions in a chunk: within it all pairs are scored, beyond it there is only the running sum.
CHUNK = 64


def visible(
    k: torch.Tensor,  # (B, H, Nk, M)
    mask: torch.Tensor | None,  # broadcasts to (B, H, 1, Nk)
) -> torch.Tensor:
    """The features of the keys, zero where the mask hides them."""
    if mask is None:
        return k
    return k.masked_fill(~mask.broadcast_to(*k.shape[:2], 1, k.shape[2]).mT, 0.0)


def counted(v: torch.Tensor) -> torch.Tensor:
    """The values with a column of ones, whose weighted sum is the sum of the weights."""
    return F.pad(v, (0, 1), value=1.0)


def mean_of(sums: torch.Tensor) -> torch.Tensor:
    """Weighted sums of :func:`counted` values, divided by the sum of the weights; zero without."""
    total = sums[..., -1:]
    return sums[..., :-1] / total.masked_fill(total == 0, 1.0)


def pairs_are_fewer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    """Whether (q kᵀ) v takes fewer operations than q (kᵀ v), as it does for a few dozen keys."""
    (q_len, k_len), (features, width) = (q.shape[2], k.shape[2]), (k.shape[3], v.shape[3])
    return q_len * k_len * (features + width) < (q_len + k_len) * features * width


def product(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q kᵀ v, in the order that takes fewer operations."""
    return (q @ k.mT) @ v if pairs_are_fewer(q, k, v) else q @ (k.mT @ v)


def mean_product(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The values, weighted by q kᵀ and divided by the sum of the weights; zero without any.

    The sums are taken apart: a column of ones would cost a copy of the values.
    """
    total = q @ k.sum(2, keepdim=True).mT  # (B, H, Nq, 1)
    return product(q, k, v) / total.masked_fill(total == 0, 1.0)


def chunk_size(length: int) -> int:
    """A power of two; for a short sequence, as at a step of generation, the next one."""
    return min(CHUNK, 1 << max(0, length - 1).bit_length())


def in_chunks(x: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """(B, H, N, ·) as (B, H, chunks, chunk, ·), filled up at the end; at least one."""
    size = chunk_size(x.shape[2])
    chunks = max(1, -(-x.shape[2] // size))
    missing = chunks * size - x.shape[2]
    if missing:
        x = F.pad(x, (0, 0, 0, missing), value=fill)
    return x.reshape(*x.shape[:2], chunks, size, x.shape[-1])


def decayed_states(
    added: torch.Tensor,  # (B, H, chunks, M, Dv)
    decay: torch.Tensor,  # broadcasts to it
    state: torch.Tensor | None,  # (B, H, M, Dv)
) -> tuple[torch.Tensor, torch.Tensor]:
    """The states S_c = decay_c S_{c−1} + added_c: those before each chunk, and the last."""
    last = torch.zeros_like(added[:, :, 0]) if state is None else state
    before = []
    for new, kept in zip(added.unbind(2), decay.unbind(2), strict=True):
        before.append(last)
        last = torch.addcmul(new, last, kept)
    return torch.stack(before, 2), last


def causal_scan(
    q: torch.Tensor,  # (B, H, N, M)
    k: torch.Tensor,  # (B, H, N, M)
    v: torch.Tensor,  # (B, H, N, Dv)
    state: torch.Tensor | None = None,  # (B, H, M, Dv)
) -> tuple[torch.Tensor, torch.Tensor]:
    """o_t = q_tᵀ S_t with S_t = S_{t−1} + k_t v_tᵀ, and the last S, in chunks."""
    length = q.shape[2]
    q, k, v = (in_chunks(x) for x in (q, k, v))
    added = k.mT @ v  # (B, H, chunks, M, Dv)
    first = torch.zeros_like(added[:, :, :1]) if state is None else state[:, :, None]
    states = torch.cat([first, added], 2).cumsum(2)
    output = (q @ k.mT).tril_() @ v + q @ states[:, :, :-1]
    return output.flatten(2, 3)[:, :, :length], states[:, :, -1]


def aligned_scan(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """:func:`causal_scan` for any numbers of queries and keys, aligned at the lower right."""
    q_len, k_len = q.shape[2], k.shape[2]
    before = max(0, k_len - q_len)  # keys that every query sees
    blind = max(0, q_len - k_len)  # queries that see no key
    state = k[:, :, :before].mT @ v[:, :, :before]
    output, _ = causal_scan(q[:, :, blind:], k[:, :, before:], v[:, :, before:], state)
    return F.pad(output, (0, 0, blind, 0))


def scan_flops(case: Case, features: int, width: int) -> float:
    """FLOPs of :func:`product`, or of an aligned scan if causal, for all heads."""
    shape = case.attention_shape
    q_len, k_len = shape.q_len, shape.k_len
    sums = (q_len + k_len) * features * width
    if case.causal:
        seen = min(q_len, k_len)
        per_head = sums + seen * chunk_size(seen) * (features + width)
    else:
        per_head = min(sums, q_len * k_len * (features + width))
    return 2.0 * shape.batch * shape.heads * per_head
