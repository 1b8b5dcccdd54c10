"""Handwritten digits, 8 × 8, as they come with scikit-learn."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["CLASSES", "SIDE", "digits"]

SIDE, CLASSES = 8, 10


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (1797, 1, 8, 8) from −1 to 1, and their classes.

    Source:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = torch.from_numpy(found.images).float()[:, None] / 8 - 1
    return pictures, torch.from_numpy(found.target).long()
