"""Copying, selective copying and induction heads: recall by place, by order and by context."""

from __future__ import annotations

import torch

from bakeoff.suites.learning.task import IGNORED, Examples, Task, generator_of

#: Tokens: 0 is a blank, 1 says that now is the time to answer, the rest are symbols.
BLANK, NOW, FIRST, VOCABULARY = 0, 1, 2, 18
COPIED = 12
#: Selective copying: symbols among blanks.
SELECTED, SPREAD = 6, 18
CONTEXT = 32


def _symbols(count: int, length: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(FIRST, VOCABULARY, (count, length), generator=generator)


def _asked(shown: torch.Tensor, answers: torch.Tensor) -> Examples:
    """What is shown, then the sign to answer at as many places as there are answers."""
    x = torch.cat([shown, torch.full_like(answers, NOW)], 1)
    y = torch.cat([torch.full_like(shown, IGNORED), answers], 1)
    return Examples(x, y)


def copying(split: str, count: int, seed: int) -> Examples:
    """12 symbols, then their copy: each answer stands 12 places back."""
    symbols = _symbols(count, COPIED, generator_of(split, seed))
    return _asked(symbols, symbols)


def selective_copying(split: str, count: int, seed: int) -> Examples:
    """6 symbols anywhere among 18 places, then the symbols in their order, without the blanks."""
    generator = generator_of(split, seed)
    symbols = _symbols(count, SELECTED, generator)
    places = torch.rand(count, SPREAD, generator=generator).argsort(-1)[:, :SELECTED]
    shown = torch.full((count, SPREAD), BLANK).scatter(1, places.sort().values, symbols)
    return _asked(shown, symbols)


def induction(split: str, count: int, seed: int) -> Examples:
    """A sign somewhere among symbols, and again at the end: what came after it the first time?"""
    generator = generator_of(split, seed)
    x = _symbols(count, CONTEXT, generator)
    rows, place = torch.arange(count), torch.randint(CONTEXT - 2, (count,), generator=generator)
    x[rows, place], x[:, -1] = NOW, NOW
    y = torch.full_like(x, IGNORED)
    y[:, -1] = x[rows, place + 1]
    return Examples(x, y)


TASKS = (
    Task(
        name="copying",
        summary="Twelve symbols, to be repeated in their order.",
        source="Hochreiter and Schmidhuber (1997); Graves et al. (2014), section 4.1",
        make=copying,
        length=2 * COPIED,
        entries=VOCABULARY,
        outputs=VOCABULARY,
        steps=600,
    ),
    Task(
        name="selective_copying",
        summary="Symbols among blanks, to be repeated in their order without the blanks.",
        source="Jing et al. (2019); Gu and Dao (2023), Mamba, section 3.1",
        make=selective_copying,
        length=SPREAD + SELECTED,
        entries=VOCABULARY,
        outputs=VOCABULARY,
        steps=1500,
    ),
    Task(
        name="induction",
        summary="A sign was seen once, and is seen again: what came after it?",
        source="Olsson et al. (2022); Gu and Dao (2023), Mamba, section 4.1.2",
        make=induction,
        length=CONTEXT,
        entries=VOCABULARY,
        outputs=VOCABULARY,
        steps=1500,
    ),
)
