"""Attention a block of queries at a time, with memory that grows linearly in the length."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["allowed_in_block", "by_query_blocks", "query_blocks"]

#: Scores of a block, over batch and heads: 2 MiB in float32, which the caches hold.
BLOCK_ELEMENTS = 2**19
#: Fewer rows than this make products too thin to be fast, however long they are.
LEAST_ROWS = 32


def by_query_blocks(
    attend: Callable[[slice, slice, torch.Tensor | None], torch.Tensor],
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    mask: torch.Tensor | None,
    causal: bool,
) -> torch.Tensor:
    """``attend(rows, keys, allowed)`` for each block of queries; the backward computes it again.

    ``allowed`` says which of the block's keys each of its queries may attend to; None for all.
    """
    outputs = []
    for rows, keys in query_blocks(q, k, causal):
        allowed = allowed_in_block(rows, keys, q, k, mask, causal)
        arguments = (attend, rows, keys, allowed)
        outputs.append(checkpoint(*arguments, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(outputs, 2)


def query_blocks(q: torch.Tensor, k: torch.Tensor, causal: bool) -> Iterator[tuple[slice, slice]]:
    """The queries of each block, and the keys that any of them may see: at least one.

    Without queries there is one empty block; where there are no keys either, slices stay empty.
    """
    (batch, heads, q_len, _), k_len = q.shape, k.shape[2]
    size = max(LEAST_ROWS, BLOCK_ELEMENTS // max(1, batch * heads * k_len))
    for start in range(0, max(1, q_len), size):
        stop = min(start + size, q_len)
        seen = max(1, stop + k_len - q_len) if causal else k_len
        yield slice(start, stop), slice(0, seen)


def allowed_in_block(
    rows: slice,
    keys: slice,
    q: torch.Tensor,
    k: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
) -> torch.Tensor | None:
    """That part of ``bakeoff.allowed_keys``, made without the whole."""
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], k.shape[2])[..., keys]
        if mask.dim() > 1 and mask.shape[-2] > 1:
            mask = mask[..., rows, :]
    if not causal:
        return mask
    size = (rows.stop - rows.start, keys.stop - keys.start)
    ones = torch.ones(size, dtype=torch.bool, device=q.device)
    lower = ones.tril(rows.start + k.shape[2] - q.shape[2] - keys.start)
    return lower if mask is None else lower & mask
