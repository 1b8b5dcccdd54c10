"""Handwritten digits, 8 × 8, as they come with scikit-learn."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["CLASSES", "SIDE", "digits", "some_digits"]

SIDE, CLASSES = 8, 10
#: Pictures that are only tested on: the last of the set, by other hands than the first.
HELD_OUT = 297


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


def some_digits(
    generator: torch.Generator, size: int, *, held_out: bool
) -> dict[str, torch.Tensor]:
    """Pictures with their classes, as ``pixel_values`` and ``labels``.

    Args:
        generator: Which of them.
        size: How many.
        held_out: Whether of those that are only tested on.
    """
    pictures, classes = digits()
    split = len(classes) - HELD_OUT
    first, last = (split, len(classes)) if held_out else (0, split)
    chosen = torch.randint(first, last, (size,), generator=generator)
    return {"pixel_values": pictures[chosen], "labels": classes[chosen]}
