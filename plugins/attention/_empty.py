"""Sequences without a key, where a largest or a first one is asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["with_a_key"]


def with_a_key(
    k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The same; where there is no key, one that is hidden from all queries."""
    if k.shape[2]:
        return k, v, mask
    hidden = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=k.device)
    return F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1)), hidden
