"""Intervals for medians of noisy, drifting times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "median", "median_ratio", "rounds_for"]

RESAMPLES = 1000
LEVEL = 0.95
#: The standard error of a median is this much larger than that of a mean (normal samples).
MEDIAN_FACTOR = math.sqrt(math.pi / 2)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval and the number of samples."""

    value: float
    low: float
    high: float
    n: int


def median(samples: NDArray[np.float64], seed: int = 0) -> Estimate:
    """The median, with a block-bootstrap interval.

    Example:
        >>> median(np.array([1.0, 2.0, 3.0])).value
        2.0
    """
    resampled = np.median(samples[_blocks(len(samples), seed)], axis=1)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.median(samples)), float(low), float(high), len(samples))


def median_ratio(
    samples: NDArray[np.float64], baseline: NDArray[np.float64], seed: int = 0
) -> Estimate:
    """exp of the median log-ratio of samples that were taken in the same rounds.

    Args:
        samples: Times of one rival, by round.
        baseline: Times of the baseline in the same rounds.
        seed: Of the bootstrap.

    Example:
        >>> median_ratio(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])).value
        2.0
    """
    estimate = median(np.log(samples / baseline), seed)
    value, low, high = (math.exp(v) for v in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.n)


def rounds_for(precision: float, pilot: NDArray[np.float64]) -> int:
    """How many rounds make the interval of a ratio as narrow as ±``precision``.

    Args:
        precision: As a share: 0.03 for 3%.
        pilot: Log-ratios of a few rounds.
    """
    spread = float(np.std(pilot, ddof=1)) if len(pilot) > 1 else 0.0
    return math.ceil((1.96 * MEDIAN_FACTOR * spread / math.log1p(precision)) ** 2)


def _blocks(n: int, seed: int) -> NDArray[np.intp]:
    """Indices of resamples (RESAMPLES, n), in runs of about n^(1/3), since neighbours are alike."""
    length = max(1, round(n ** (1 / 3)))
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, n, (RESAMPLES, math.ceil(n / length)))
    runs = (starts[:, :, None] + np.arange(length)) % n
    return runs.reshape(RESAMPLES, -1)[:, :n]
