"""torch's fused attention under the conventions of the registry."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bakeoff import allowed_keys

__all__ = ["fused_attention"]


def fused_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """softmax(q kᵀ · scale) v, causal at the lower right, where torch's own is upper left."""
    square = q.shape[-2] == k.shape[-2]
    if causal and (mask is not None or not square):
        mask, causal = allowed_keys(q, k, mask, causal), False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
