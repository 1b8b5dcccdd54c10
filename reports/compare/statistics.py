"""Ratios between two sets of repetitions, with their intervals, and the correction for many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

__all__ = ["LEVEL", "Ratio", "between_launches", "between_means", "between_pairs", "holm"]

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """New to old, with its 95% interval, and how likely one so far from 1 is between equals.

    Args:
        value: The ratio of the geometric means.
        low: Lower end of the interval; the value itself where nothing varies.
        high: Upper end.
        p: The two-sided probability under equality, for one comparison alone; None for what is
            counted and not sampled.
    """

    value: float
    low: float
    high: float
    p: float | None = None


def between_launches(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """The ratio of positive values that were measured in several processes on each side.

    A process differs from the next by more than the interval within it says, so that the process
    is the unit: Welch's t of the logarithms, one number a launch, whose spread holds what varies
    within a launch as well.

    Example:
        >>> found = between_launches([1.0, 1.01, 0.99, 1.0, 1.0], [1.1, 1.11, 1.09, 1.1, 1.1])
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (1.1, 1.089, 1.111)
    """
    before, after = ([math.log(value) for value in values] for values in (old, new))
    shift = statistics.fmean(after) - statistics.fmean(before)
    parts = [statistics.variance(logs) / len(logs) for logs in (before, after)]
    error = math.sqrt(sum(parts))
    if not error:
        return _exactly(shift)
    degrees = error**4 / sum(
        part**2 / (len(logs) - 1) for part, logs in zip(parts, (before, after), strict=True)
    )
    return _by_student(shift, error, degrees)


def between_pairs(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """The ratio of positive values that belong together one by one, as those of the same seeds.

    Example:
        >>> round(between_pairs([1.0, 2.0, 3.0], [1.1, 2.2, 3.4]).value, 2)
        1.11
    """
    logs = [math.log(after / before) for before, after in zip(old, new, strict=True)]
    shift, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    return _by_student(shift, error, len(logs) - 1) if error else _exactly(shift)


def between_means(
    old: tuple[float, float, float, int], new: tuple[float, float, float, int]
) -> Ratio:
    """The ratio of two positive means, of which only the intervals are known.

    The standard error of a mean is the wider half of its 95% interval over Student's t of its n − 1
    degrees of freedom, and that of its logarithm as large a share of it.

    Args:
        old: The mean, the ends of its interval, and the number of samples.
        new: Likewise.

    Example:
        >>> round(between_means((1.0, 0.9, 1.1, 6), (2.0, 1.9, 2.1, 6)).value, 6)
        2.0
    """
    errors = [
        max(high - mean, mean - low) / float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) / mean
        for mean, low, high, n in (old, new)
    ]
    shift, error = math.log(new[0] / old[0]), math.hypot(*errors)
    if not error:
        return _exactly(shift)
    parts = zip(errors, (old[3], new[3]), strict=True)
    return _by_student(shift, error, error**4 / sum(e**4 / (n - 1) for e, n in parts))


def holm(probabilities: Sequence[float]) -> list[float]:
    """The probabilities, corrected for how many they are (Holm 1979, sequentially rejective).

    Calling a difference where the corrected one is at most 0.05 is wrong for *any* of them in at
    most 5% of all comparisons, whatever they depend on.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    corrected, largest = [0.0] * len(probabilities), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * probabilities[i]))
        corrected[i] = largest
    return corrected


def _by_student(shift: float, error: float, degrees: float) -> Ratio:
    reach = float(special.stdtrit(degrees, (1 + LEVEL) / 2)) * error
    p = 2 * float(special.stdtr(degrees, -abs(shift) / error))
    return Ratio(math.exp(shift), math.exp(shift - reach), math.exp(shift + reach), p)


def _exactly(shift: float) -> Ratio:
    return Ratio(math.exp(shift), math.exp(shift), math.exp(shift), 0.0 if shift else 1.0)
