"""Handwritten digits of 8 × 8 pixels (Alpaydin and Kaynak, 1998; scikit-learn's load_digits)."""

from __future__ import annotations

from functools import cache

import torch

from bakeoff.suites.digits import CLASSES, SIDE, digits
from bakeoff.suites.learning.task import SPLITS, Examples, Task

PATCH = 2
#: Of every 10 images in the order of the file: 7 to train on, 1 to choose by and 2 to test on.
SHARES = {"train": range(7), "validation": range(7, 8), "test": range(8, 10)}


@cache
def _images() -> tuple[torch.Tensor, torch.Tensor]:
    """(1797, 8, 8) of mean 0 and standard deviation 1 over all pixels, and the classes."""
    pixels, classes = digits()
    return (pixels - pixels.mean()) / pixels.std(), classes


def _split(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    assert split in SPLITS
    images, classes = _images()
    share = SHARES[split]
    place = torch.arange(len(images)) % 10
    chosen = (place >= share.start) & (place < share.stop)
    return images[chosen], classes[chosen]


def rows(split: str, count: int, seed: int) -> Examples:
    """A row of pixels at each of 8 positions; the same images whatever the seed."""
    images, classes = _split(split)
    return Examples(images[:count], classes[:count])


def patches(split: str, count: int, seed: int) -> Examples:
    """A patch of 2 × 2 pixels at each of 4 × 4 positions (Dosovitskiy et al., 2020)."""
    images, classes = _split(split)
    parts = images.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return Examples(parts.reshape(len(images), -1, PATCH**2)[:count], classes[:count])


def pixels(split: str, count: int, seed: int) -> Examples:
    """All pixels side by side at one position."""
    images, classes = _split(split)
    return Examples(images.flatten(1)[:count, None], classes[:count])


_SOURCE = "scikit-learn's load_digits, 1797 images"
TASKS = (
    Task(
        name="digits_rows",
        summary="Handwritten digits, read row by row: which one is it?",
        source=_SOURCE,
        make=rows,
        length=SIDE,
        entries=SIDE,
        outputs=CLASSES,
        answers="one",
        pattern="self",
        numeric=True,
        steps=300,
        batch=32,
        target=0.9,
    ),
    Task(
        name="digits_patches",
        summary="Handwritten digits, seen in 4 × 4 patches: which one is it?",
        source=_SOURCE,
        make=patches,
        length=(SIDE // PATCH) ** 2,
        entries=PATCH**2,
        outputs=CLASSES,
        answers="one",
        pattern="self",
        depths={"attention": (2,), "activation": (2, 6)},
        numeric=True,
        grid=((SIDE // PATCH, SIDE // PATCH),),
        steps=300,
        batch=32,
        target=0.9,
    ),
    Task(
        name="digits",
        summary="Handwritten digits, all pixels at once: which one is it?",
        source=_SOURCE,
        make=pixels,
        length=1,
        entries=SIDE**2,
        outputs=CLASSES,
        answers="one",
        model="mlp",
        depths={"activation": (2, 8), "connection": (4, 8, 16, 32, 64)},
        numeric=True,
        steps=300,
        batch=32,
        target=0.9,
    ),
)
