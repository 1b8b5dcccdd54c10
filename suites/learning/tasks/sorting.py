"""Sorting: every answer depends on all numbers."""

from __future__ import annotations

import torch

from bakeoff.suites.learning.task import Examples, Task, generator_of

LENGTH, NUMBERS = 12, 32


def make(split: str, count: int, seed: int) -> Examples:
    """12 numbers below 32, with repetition; at place i the i-th smallest is asked."""
    x = torch.randint(NUMBERS, (count, LENGTH), generator=generator_of(split, seed))
    return Examples(x, x.sort(-1).values)


TASKS = (
    Task(
        name="sorting",
        summary="Twelve numbers: which is the smallest, the second smallest, and so on?",
        source="Vinyals et al. (2015), Order Matters, section 5.1",
        make=make,
        length=LENGTH,
        entries=NUMBERS,
        outputs=NUMBERS,
        pattern="self",
        steps=1500,
        target=0.9,
    ),
)
