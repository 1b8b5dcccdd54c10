"""Handwritten digits as pictures with labels, as vision models take them."""

from __future__ import annotations

from functools import cache

import torch

from bakeoff.suites.digits import digits

__all__ = ["pictures", "some_digits"]

#: Pictures that are only tested on: the last of the set, by other hands than the first.
HELD_OUT = 297


@cache
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (1797, 1, 8, 8) from −1 to 1, and their classes."""
    images, classes = digits()
    return images[:, None] / 8 - 1, classes


def some_digits(
    generator: torch.Generator, size: int, *, held_out: bool
) -> dict[str, torch.Tensor]:
    """Pictures with their classes, as ``pixel_values`` and ``labels``.

    Args:
        generator: Which of them.
        size: How many.
        held_out: Whether of those that are only tested on.
    """
    every, classes = pictures()
    split = len(classes) - HELD_OUT
    first, last = (split, len(classes)) if held_out else (0, split)
    chosen = torch.randint(first, last, (size,), generator=generator)
    return {"pixel_values": every[chosen], "labels": classes[chosen]}
