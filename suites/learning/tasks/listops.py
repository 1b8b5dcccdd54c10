"""ListOps: nested operations on digits (Nangia and Bowman, 2018; Long Range Arena, section 2.2.1).

The grammar is that of Long Range Arena (Tay et al., 2020): a node is an operation with probability
1/4 and else a digit; an operation has 2 or more arguments; MED is the median rounded down, SM the
sum modulo 10. Only the sizes are smaller: there up to 10 levels and 10 arguments make 500 to 2000
tokens.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from functools import cache

import torch

from bakeoff.suites.learning.task import SPLITS, Examples, Task

OPERATIONS: dict[str, Callable[[Sequence[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
#: Of the alphabet: the digits, the operations, the end of an operation, and what fills up.
TOKENS = (*map(str, range(10)), *OPERATIONS, "]", "")
OPERATION_SHARE = 0.25
LEVELS, ARGUMENTS, SHORTEST, LONGEST = 4, 5, 8, 32
POOL = 8192


def tree(generator: random.Random, level: int = 1) -> tuple[list[str], int]:
    """An expression as tokens, with its value."""
    if level >= LEVELS or generator.random() > OPERATION_SHARE:
        digit = generator.randrange(10)
        return [str(digit)], digit
    count = generator.randint(2, ARGUMENTS)
    arguments = [tree(generator, level + 1) for _ in range(count)]
    operation = generator.choice(list(OPERATIONS))
    tokens = [operation, *(token for tokens, _ in arguments for token in tokens), "]"]
    return tokens, OPERATIONS[operation]([value for _, value in arguments])


@cache
def _expressions(split: str, count: int, seed: int) -> Examples:
    """Expressions of a fitting length, as Long Range Arena draws them: others are drawn again."""
    generator = random.Random(seed * len(SPLITS) + SPLITS.index(split))
    code = {token: i for i, token in enumerate(TOKENS)}
    rows: list[list[int]] = []
    values: list[int] = []
    while len(rows) < count:
        tokens, value = tree(generator)
        if SHORTEST <= len(tokens) <= LONGEST:
            filled = tokens + [""] * (LONGEST - len(tokens))
            rows.append([code[token] for token in filled])
            values.append(value)
    return Examples(torch.tensor(rows), torch.tensor(values))


def make(split: str, count: int, seed: int) -> Examples:
    """Expressions of 8 to 32 tokens, with their values."""
    return _expressions(split, min(count, POOL), seed)


TASKS = (
    Task(
        name="listops",
        summary="Nested minima, maxima, medians and sums of digits: what do they come to?",
        source="Tay et al. (2020), Long Range Arena, section 2.2.1; 4 levels, at most 32 tokens",
        make=make,
        length=LONGEST,
        entries=len(TOKENS),
        outputs=10,
        answers="one",
        pattern="self",
        pool=POOL,
        steps=1500,
        target=0.35,  # what Long Range Arena reports of transformers, 36%, at its sizes
    ),
)
