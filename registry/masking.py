"""Masks as every attention of the registry reads them."""

from __future__ import annotations

import torch

__all__ = ["allowed_keys", "masked_softmax"]


def allowed_keys(
    q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor | None:
    """Which keys each query may attend to, from ``mask`` and ``causal`` together.

    ``causal`` is aligned at the lower right: the last query sees every key, as with a KV cache.

    Args:
        q: Queries (..., Nq, D).
        k: Keys (..., Nk, D).
        mask: Bool, broadcasts to (..., Nq, Nk), True where a query may attend.
        causal: Whether a query sees only the keys up to its own place.

    Returns:
        Bool, broadcasts to (..., Nq, Nk); None where every key is allowed.

    Example:
        >>> allowed_keys(torch.zeros(2, 1), torch.zeros(3, 1), causal=True).int()
        tensor([[1, 1, 0],
                [1, 1, 1]], dtype=torch.int32)
    """
    if not causal:
        return mask
    q_len, k_len = q.shape[-2], k.shape[-2]
    ones = torch.ones(q_len, k_len, dtype=torch.bool, device=q.device)
    lower = ones.tril(k_len - q_len)
    return lower if mask is None else lower & mask


def masked_softmax(scores: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax over the allowed keys; a query with none gets zero weights, and zero gradients.

    Args:
        scores: (..., Nq, Nk).
        allowed: As :func:`allowed_keys` returns it.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
        tensor([[1., 0.],
                [0., 0.]])
    """
    if allowed is None:
        return scores.softmax(-1)
    # The least finite number, not -inf: a row without keys would be NaN, in its gradient too.
    least = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, least).softmax(-1).masked_fill(~allowed, 0.0)
