"""torch's fused attention under the conventions of the registry."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from bakeoff import allowed_keys
from bakeoff.registry.layout import pack_gradient, pack_rows

__all__ = ["fused_attention", "grouped_attention"]


def fused_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """softmax(q kᵀ · scale) v, causal at the lower right, where torch's own is upper left."""
    mask, causal = _for_torch(q, k, mask, causal)
    return _with_equal_sizes(q, k, v, scale, attn_mask=mask, is_causal=causal)


def grouped_attention(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, Hkv, Nk, D)
    v: torch.Tensor,  # (B, Hkv, Nk, Dv)
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """Likewise with fewer key heads, each for a group of neighbouring query heads.

    Keys and values are read where they lie, never repeated. Where all queries of a group see the
    same keys they become the rows of one head, which reads its keys once: decoding with 32 heads
    on one took a twentieth of the time so.
    """
    (batch, heads, q_len, _), groups = q.shape, k.shape[1]
    alike = mask is None or (mask.dim() == 4 and mask.shape[1:3] == (1, 1))
    if alike and (not causal or q_len == 1):
        rows = q.reshape(batch, groups, heads // groups * q_len, q.shape[-1])
        output = _with_equal_sizes(rows, k, v, scale, attn_mask=mask)
        return output.reshape(batch, heads, q_len, v.shape[-1])
    mask, causal = _for_torch(q, k, mask, causal)
    return _with_equal_sizes(q, k, v, scale, attn_mask=mask, is_causal=causal, enable_gqa=True)


def _for_torch(
    q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> tuple[torch.Tensor | None, bool]:
    """The same mask and ``causal`` as torch reads them: one or the other, and upper left."""
    if causal and (mask is not None or q.shape[-2] != k.shape[-2]):
        return allowed_keys(q, k, mask, causal), False
    return mask, causal


def _with_equal_sizes(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None, **options: Any
) -> torch.Tensor:
    """torch's fused attention; where keys and values differ in size, zeros fill up the smaller.

    The CPU's kernel wants them equal: without it all N² scores are made, and kept.
    """
    dim, value_dim = q.shape[-1], v.shape[-1]
    if dim != value_dim:
        scale = 1 / math.sqrt(dim) if scale is None else scale
        q, k, v = (F.pad(t, (0, max(dim, value_dim) - t.shape[-1])) for t in (q, k, v))
    if scale is not None and scale <= 0 and options.get("is_causal"):
        # torch multiplies what it hides, -inf, by the scale: that is NaN, or infinitely visible.
        q, scale = q * scale, 1.0
    q, k, v = map(pack_rows, (q, k, v))
    output = pack_gradient(F.scaled_dot_product_attention(q, k, v, scale=scale, **options))
    return output[..., :value_dim] if dim > value_dim else output
