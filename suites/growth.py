"""How a cost grows with the length: exponents of counts, fits of times, and crossover lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bakeoff.registry.variants import COMPLEXITIES

__all__ = ["LEAST_LENGTHS", "Crossover", "Fit", "crossover", "fit", "grows_as", "slope"]

Vector = NDArray[np.float64]

LEAST_LENGTHS = 4
#: How far the exponent of a count may lie above that of the declared growth, for rounding to
#: whole blocks; half of what lies between N and N √N.
TOLERANCE = 0.25
#: A crossover is narrowed down until its ends are this close, as a ratio.
CLOSE_ENOUGH = 1.1


def slope(lengths: Sequence[int], costs: Sequence[float]) -> float:
    """The exponent between the last two lengths.

    Example:
        >>> slope([128, 256, 512], [10.0, 40.0, 160.0])
        2.0
    """
    (n, m), (x, y) = lengths[-2:], costs[-2:]
    if x <= 0 or y <= 0:
        return 0.0
    return math.log(y / x) / math.log(m / n)


def grows_as(declared: str, lengths: Sequence[int], costs: Sequence[float], may_lag: float) -> bool:
    """Whether costs grow as one of :data:`bakeoff.registry.variants.COMPLEXITIES` says.

    Args:
        declared: The growth.
        lengths: At least two.
        costs: At these lengths.
        may_lag: How far the exponent may lie below the declared one: what is added in lower
            order (projections, a block of fixed size) can outweigh what grows.

    Example:
        >>> [grows_as("N", [512, 1024], [5.0, end], may_lag=0.5) for end in (10.1, 20.0, 5.0)]
        [True, False, False]
    """
    expected = slope(lengths, [_growth(declared, n) for n in lengths[-2:]])
    return -may_lag <= slope(lengths, costs) - expected <= TOLERANCE


def _growth(declared: str, n: int) -> float:
    logarithm = math.log(n) if declared == "N log N" else 1.0
    return float(n ** COMPLEXITIES[declared]) * logarithm


@dataclass(frozen=True)
class Fit:
    """a + b·N^p, fitted to times.

    Args:
        constant: a, in seconds.
        factor: b, in seconds.
        exponent: p.
        low: Lower end of its 95% interval.
        high: Upper end.
    """

    constant: float
    factor: float
    exponent: float
    low: float
    high: float


def fit(lengths: Sequence[int], seconds: Sequence[float]) -> Fit | None:
    """Fit a + b·N^p with a, b ≥ 0 to the logarithms of times; None where that is undetermined.

    The interval comes from how far the times lie from the curve (Student's t, with a degree of
    freedom for each length beyond the parameters that were needed): times are no clean power, and
    that is a larger error than their noise.

    Example:
        >>> found = fit([128, 256, 512, 1024, 2048], [n**2 * 1e-9 + 1e-5 for n in
        ...     (128, 256, 512, 1024, 2048)])
        >>> round(found.exponent, 2), round(found.constant, 6)
        (2.0, 1e-05)
    """
    if len(lengths) < LEAST_LENGTHS:
        return None
    n, t = np.log(np.asarray(lengths, float)), np.log(np.asarray(seconds, float))
    line, curve = _line(n, t), _curve(n, t)
    # Without the constant it is a line; the constant is taken where it explains much more.
    better = curve if curve[1] < line[1] / 2 else line
    (exponent, factor, constant), _, error, freedom = better
    reach = float(special.stdtrit(freedom, 0.975)) * error
    return Fit(math.exp(constant), math.exp(factor), exponent, exponent - reach, exponent + reach)


#: (p, log b, log a); the residuals' variance; the standard error of p; degrees of freedom.
_Found = tuple[tuple[float, float, float], float, float, int]


def _line(n: Vector, t: Vector) -> _Found:
    """log t = log b + p·log N."""
    design = np.stack([n, np.ones_like(n)], axis=1)
    (exponent, factor), *_ = np.linalg.lstsq(design, t, rcond=None)
    freedom = len(n) - 2
    variance = float(np.sum((design @ (exponent, factor) - t) ** 2)) / freedom
    error = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[0, 0]))
    return (float(exponent), float(factor), -math.inf), variance, error, freedom


def _curve(n: Vector, t: Vector) -> _Found:
    """log t = log(a + b·N^p)."""
    from scipy import optimize  # takes a third of a second to import

    def residuals(parameters: Vector) -> Vector:
        exponent, factor, constant = parameters
        return np.asarray(np.logaddexp(factor + exponent * n, constant) - t)

    steep = max(0.1, float((t[-1] - t[-2]) / (n[-1] - n[-2])))
    start = [steep, t[-1] - steep * n[-1], t[0] - 1.0]
    found = optimize.least_squares(residuals, start, max_nfev=2000)
    freedom = len(n) - 3
    variance = 2 * float(found.cost) / freedom
    error = math.sqrt(variance * max(0.0, float(np.linalg.pinv(found.jac.T @ found.jac)[0, 0])))
    exponent, factor, constant = (float(value) for value in found.x)
    return (exponent, factor, constant), variance, error, freedom


@dataclass(frozen=True)
class Crossover:
    """From which length on a rival is faster than its baseline.

    Args:
        low: The longest length at which it was not; None where there is no such length.
        high: The shortest from which on it was.
        said: ``"found"``, ``"below the grid"``, ``"none up to N"`` or ``"undecided"``.
    """

    low: int | None = None
    high: int | None = None
    said: str = "found"

    @property
    def value(self) -> float | None:
        """The middle of both ends, where it was found."""
        if self.said != "found" or self.low is None or self.high is None:
            return None
        return math.sqrt(self.low * self.high)


def crossover(verdicts: dict[int, str], race: Callable[[int], str]) -> Crossover:
    """Find it by bisecting lengths.

    Args:
        verdicts: For each length of the grid ``"faster"``, ``"slower"``, ``"no difference"`` or
            ``"undecided"``.
        race: Gives the verdict for another length.
    """
    lengths = sorted(verdicts)
    last = verdicts[lengths[-1]]
    if last != "faster":
        # Equal to the end is no crossing either; only what can't be told apart is open.
        return Crossover(said="undecided" if last == "undecided" else f"none up to {lengths[-1]}")
    high = next(
        n for i, n in enumerate(lengths) if all(verdicts[m] == "faster" for m in lengths[i:])
    )
    if high == lengths[0]:
        return Crossover(said="below the grid")
    low = lengths[lengths.index(high) - 1]
    while high / low > CLOSE_ENOUGH:
        middle = round(math.sqrt(low * high))
        verdict = race(middle) if low < middle < high else "undecided"
        if verdict == "faster":
            high = middle
        elif verdict == "slower":
            low = middle
        else:
            break  # too close to call: the interval stays as it is
    return Crossover(low, high)
