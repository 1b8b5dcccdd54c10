"""Multi-query associative recall (Arora et al., 2023, Zoology, section 3.1 and appendix E)."""

from __future__ import annotations

import torch

from bakeoff.suites.learning.task import IGNORED, Examples, Task, generator_of

#: Tokens: 0 fills, then the keys, then the values.
VOCABULARY, LENGTH, PAIRS = 64, 32, 4
KEYS = range(1, VOCABULARY // 2)
VALUES = range(VOCABULARY // 2, VOCABULARY)
#: The density of the gap g before a query is proportional to g^(a − 1).
POWER = 0.01


def make(split: str, count: int, seed: int) -> Examples:
    """Pairs of a key and a value, then each key again: which value went with it?

    Keys and values of one example are all different. The second places of the keys are drawn
    without replacement, near ones more often, by the power law of appendix E.
    """
    generator = generator_of(split, seed)
    keys = KEYS.start + _choices(count, len(KEYS), generator)
    values = VALUES.start + _choices(count, len(VALUES), generator)
    x = torch.zeros(count, LENGTH, dtype=torch.long)
    x[:, 0 : 2 * PAIRS : 2], x[:, 1 : 2 * PAIRS : 2] = keys, values
    gaps = torch.arange(1, (LENGTH - 2 * PAIRS) // 2 + 1)
    density = (POWER * gaps.double() ** (POWER - 1)).expand(count, -1)
    chosen = torch.multinomial(density, PAIRS, generator=generator)
    places = 2 * PAIRS + 2 * chosen
    y = torch.full_like(x, IGNORED)
    x.scatter_(1, places, keys)
    y.scatter_(1, places, values)
    return Examples(x, y)


def _choices(count: int, among: int, generator: torch.Generator) -> torch.Tensor:
    """(count, PAIRS) different numbers below ``among``."""
    return torch.rand(count, among, generator=generator).argsort(-1)[:, :PAIRS]


TASKS = (
    Task(
        name="mqar",
        summary="Pairs of a key and a value, then keys again: which value went with each?",
        source="Arora et al. (2023), Zoology, section 3.1; vocabulary 64, 32 tokens, 4 pairs",
        make=make,
        length=LENGTH,
        entries=VOCABULARY,
        outputs=VOCABULARY,
        places=False,  # the pairs stand in fixed places: to know these would replace looking
        convolution=3,
        steps=1500,
    ),
)
