"""The precision that is computed in, where half precision would destroy the result."""

from __future__ import annotations

import torch

__all__ = ["wide"]


def wide(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Half precision as float32: sums over a whole sequence need the digits and the range."""
    return tuple(t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors)
