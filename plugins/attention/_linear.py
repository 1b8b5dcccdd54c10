"""What attention without a softmax shares: sums over keys are taken before a query is seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bakeoff import Case

__all__ = ["aligned_scan", "causal_scan", "counted", "mean_of", "scan_flops", "visible"]

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


def causal_scan(
    q: torch.Tensor,  # (B, H, N, M)
    k: torch.Tensor,  # (B, H, N, M)
    v: torch.Tensor,  # (B, H, N, Dv)
    state: torch.Tensor | None = None,  # (B, H, M, Dv)
) -> tuple[torch.Tensor, torch.Tensor]:
    """o_t = q_tᵀ S_t with S_t = S_{t−1} + k_t v_tᵀ, and the last S, in chunks."""
    batch, heads, length, features = q.shape
    chunk = min(CHUNK, length)
    chunks = -(-length // chunk)

    def split(x: torch.Tensor) -> torch.Tensor:  # (B, H, chunks, chunk, ·)
        padded = F.pad(x, (0, 0, 0, chunks * chunk - length))
        return padded.reshape(batch, heads, chunks, chunk, x.shape[-1])

    q, k, v = split(q), split(k), split(v)
    if state is None:
        state = q.new_zeros(batch, heads, features, v.shape[-1])
    states = torch.cat([state[:, :, None], k.mT @ v], 2).cumsum(2)  # (B, H, chunks + 1, M, Dv)
    output = (q @ k.mT).tril_() @ v + q @ states[:, :, :-1]
    return output.reshape(batch, heads, chunks * chunk, -1)[:, :, :length], states[:, :, -1]


def aligned_scan(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """:func:`causal_scan` for any numbers of queries and keys, aligned at the lower right."""
    q_len, k_len = q.shape[2], k.shape[2]
    before = max(0, k_len - q_len)  # keys that every query sees
    blind = max(0, q_len - k_len)  # queries that see no key
    state = k[:, :, :before].mT @ v[:, :, :before]
    output, _ = causal_scan(q[:, :, blind:], k[:, :, before:], v[:, :, before:], state)
    return F.pad(output, (0, 0, blind, 0))


def scan_flops(case: Case, features: int, width: int) -> float:
    """FLOPs of the sums over keys and of reading them, with the pairs within chunks if causal."""
    shape = case.attention_shape
    per_head = 2.0 * (shape.q_len + shape.k_len) * features * width
    if case.causal:
        chunk = min(CHUNK, shape.q_len, shape.k_len)
        per_head += 2.0 * min(shape.q_len, shape.k_len) * chunk * (features + width)
    return shape.batch * shape.heads * per_head
