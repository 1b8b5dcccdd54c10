"""The next character of English prose: the help texts that come with Python (``pydoc_data``)."""

from __future__ import annotations

import re
from functools import cache

import torch

from bakeoff.registry.errors import UnsupportedError
from bakeoff.suites.learning.task import Examples, Task, generator_of

WINDOW = 48
#: What is kept; capitals become small letters, all else a space, and several spaces one.
ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789\n.,;:'()"
#: The text is cut into blocks of so many characters; of every 10, 8 train, 1 chooses, 1 tests.
BLOCK = 4096
SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}


@cache
def _text() -> torch.Tensor:
    """All topics in the order of their names, (characters,).

    Topics repeat each other by whole sections: each paragraph stands once, so that none is both
    learned and tested.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UnsupportedError(
            "this Python comes without pydoc_data, whose texts are read here"
        ) from error
    parts = (part for name in sorted(topics) for part in topics[name].lower().split("\n\n"))
    kept = (re.sub(f"[^{re.escape(ALPHABET)}]|\n", " ", part) for part in parts)
    text = "\n".join(dict.fromkeys(" ".join(part.split()) for part in kept))
    return torch.tensor([ALPHABET.index(character) for character in text])


@cache
def _windows(split: str) -> torch.Tensor:
    """Every start of a window that lies within the blocks of a split."""
    length = len(_text())
    starts = torch.arange(length - WINDOW)
    share = SHARES[split]

    def inside(place: torch.Tensor) -> torch.Tensor:
        block = place // BLOCK % 10
        return (block >= share.start) & (block < share.stop)

    same = starts // BLOCK == (starts + WINDOW) // BLOCK
    return starts[inside(starts) & same]


def make(split: str, count: int, seed: int) -> Examples:
    """Windows of 48 characters, each with the character after it."""
    starts = _windows(split)
    generator = generator_of(split, seed)
    chosen = starts[torch.randint(len(starts), (count,), generator=generator)]
    found = _text()[chosen[:, None] + torch.arange(WINDOW + 1)]
    return Examples(found[:, :-1], found[:, 1:])


TASKS = (
    Task(
        name="characters",
        summary="The next character of the help texts that come with Python.",
        source="pydoc_data.topics of the running Python; split by blocks of 4096 characters",
        make=make,
        length=WINDOW,
        entries=len(ALPHABET),
        outputs=len(ALPHABET),
        steps=1000,
        batch=32,
        target=0.35,
    ),
)
