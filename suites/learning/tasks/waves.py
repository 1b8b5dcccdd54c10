"""A regression on a function of one variable with low and high frequencies."""

from __future__ import annotations

import math

import torch

from bakeoff.suites.learning.task import Examples, Task, generator_of

FREQUENCIES = (1, 3, 6)


def curve(x: torch.Tensor) -> torch.Tensor:
    """Σ_k sin(2πkx + k) / √3, for k = 1, 3 and 6: as strong in the high as in the low."""
    waves = [torch.sin(2 * math.pi * k * x + k) for k in FREQUENCIES]
    return torch.stack(waves).sum(0) / math.sqrt(len(waves))


def make(split: str, count: int, seed: int) -> Examples:
    """x evenly distributed between −1 and 1."""
    x = 2 * torch.rand(count, 1, 1, generator=generator_of(split, seed)) - 1
    return Examples(x, curve(x[:, 0]))


TASKS = (
    Task(
        name="waves",
        summary="A sum of a slow, a faster and a fast wave of one variable, to be fitted.",
        source="after Rahaman et al. (2019), On the Spectral Bias of Neural Networks, section 2",
        make=make,
        length=1,
        entries=1,
        outputs=1,
        answers="number",
        model="mlp",
        numeric=True,
        depths={"activation": (2, 8)},
        steps=1500,
        batch=64,
        target=0.9,
    ),
)
