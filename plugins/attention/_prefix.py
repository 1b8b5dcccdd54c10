"""Attention to keys that every query may see, whatever the mask, before those of the sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bakeoff import allowed_keys

__all__ = ["attention_with_prefix", "prefix_allowed"]


def prefix_allowed(
    size: int, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor | None:
    """What a query may see of ``size`` keys that are free to all, followed by the keys ``k``."""
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is None:
        return None
    return F.pad(allowed.expand(*allowed.shape[:-1], k.shape[2]), (size, 0), value=True)


def attention_with_prefix(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    prefix_k: torch.Tensor,  # (B, H, M, D)
    prefix_v: torch.Tensor,  # (B, H, M, Dv)
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """torch's fused attention to the prefix and the keys together."""
    size = prefix_k.shape[2]
    all_k, all_v = torch.cat([prefix_k, k], 2), torch.cat([prefix_v, v], 2)
    if causal and mask is None and q.shape[2] == k.shape[2]:
        # M queries more make it square, and torch's upper-left causal mask the right one.
        rows = F.pad(q, (0, 0, size, 0))
        output = F.scaled_dot_product_attention(rows, all_k, all_v, is_causal=True, scale=scale)
        return output[:, :, size:]
    allowed = prefix_allowed(size, q, k, mask, causal)
    return F.scaled_dot_product_attention(q, all_k, all_v, attn_mask=allowed, scale=scale)
