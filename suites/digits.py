"""scikit-learn's handwritten digits: the one place that reads them."""

from __future__ import annotations

from functools import cache

import torch

from bakeoff.registry.errors import UnsupportedError

__all__ = ["CLASSES", "SIDE", "digits"]

SIDE, CLASSES = 8, 10


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (1797, 8, 8) from 0 to 16, and their classes (1797,).

    Source:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.

    Raises:
        UnsupportedError: Where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnsupportedError(
            "the digits come from scikit-learn, which is not installed: "
            "pip install 'bakeoff[learning]'"
        ) from error
    found = load_digits()
    return torch.from_numpy(found.images).float(), torch.from_numpy(found.target).long()
