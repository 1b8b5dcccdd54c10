"""What mean-field theory says of deep stacks of an elementwise activation.

A layer is h = W φ(h') + b with W_ij ~ N(0, σ_w² / fan_in) and b_i ~ N(0, σ_b²). Its variance
follows the map V(q) = σ_w² E[φ(√q z)²] + σ_b² (Poole et al., 2016, equation 3), and the squared
norm of a gradient is multiplied by χ = σ_w² E[φ'(√q z)²] at each layer on its way back (Schoenholz
et al., 2017, equation 5 and section 4). On the edge of chaos χ is 1 at the fixed point of V.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bakeoff.registry.errors import UnsupportedError
from bakeoff.suites.flow.quadrature import Curve, moments

__all__ = ["Critical", "chi", "critical", "fixed_point", "on_the_edge", "variance_map"]

#: Where fixed points are looked for.
SMALLEST, LARGEST = 1e-4, 1e4
#: Relative to q: a bias variance that is rounding is zero, and χ∥ within of 1 counts as stable.
ROUNDING = 1e-8
#: σ_b² of a critical initialisation where there is a choice, as in Schoenholz et al. (2017).
BIAS_VARIANCE = 0.05


@dataclass(frozen=True)
class Critical:
    """A point of the edge of chaos.

    Args:
        weight_variance: σ_w²: weights have the variance σ_w² / fan_in.
        bias_variance: σ_b².
        fixed_point: q*, the variance of pre-activations that stays; 1 where every one does.
        stability: χ∥ = σ_w² d E[φ²] / dq at q*: below 1, a variance that is off comes back.
    """

    weight_variance: float
    bias_variance: float
    fixed_point: float
    stability: float


def variance_map(curve: Curve, variance: float, weight: float, bias: float) -> float:
    """V(q) = σ_w² E[φ(√q z)²] + σ_b²: the variance of a layer's pre-activations from the last's.

    Example:
        >>> import torch
        >>> from bakeoff.suites.flow.quadrature import curve_of
        >>> round(variance_map(curve_of(torch.relu), 3.0, 2.0, 0.1), 6)
        3.1
    """
    return weight * moments(curve, variance).second + bias


def chi(curve: Curve, variance: float, weight: float) -> float:
    """χ = σ_w² E[φ'(√q z)²]: the factor of a squared gradient's norm for each layer."""
    return weight * moments(curve, variance).slope


def fixed_point(curve: Curve, weight: float, bias: float, start: float = 1.0) -> float:
    """The variance at which the map, begun at ``start``, ends: 0 or infinite where it does so.

    Example:
        >>> import torch
        >>> from bakeoff.suites.flow.quadrature import curve_of
        >>> round(fixed_point(curve_of(torch.tanh), 1.5, 0.05), 4)
        0.418
        >>> fixed_point(curve_of(torch.relu), 1.9, 0.0), fixed_point(curve_of(torch.relu), 2.1, 0.0)
        (0.0, inf)
    """
    from scipy import optimize  # takes a third of a second to import

    def drift(log_variance: float) -> float:
        variance = math.exp(log_variance)
        return math.log(max(variance_map(curve, variance, weight, bias), 1e-300)) - log_variance

    here = math.log(start)
    begun = drift(here)
    if abs(begun) <= ROUNDING:
        return start
    step = math.copysign(0.25, begun)
    while math.log(SMALLEST) - 10 < here < math.log(LARGEST) + 10:
        if drift(here + step) * begun <= 0:
            found = optimize.brentq(drift, here, here + step, xtol=1e-12)
            return math.exp(float(found))
        here += step
    return 0.0 if begun < 0 else math.inf


def on_the_edge(curve: Curve, variance: float) -> Critical:
    """The only (σ_w², σ_b²) of which q* = ``variance`` is a fixed point with χ = 1.

    σ_w² = 1 / E[φ'²] and σ_b² = q* − E[φ²] / E[φ'²], which may be negative: then there is none.

    Raises:
        UnsupportedError: For an activation without a slope.
    """
    at = moments(curve, variance)
    if not at.slope > 0:
        raise UnsupportedError(f"{curve.name}: it has no slope, so that no variance is critical")
    bias = variance - at.second / at.slope
    if abs(bias) <= ROUNDING * variance:
        bias = 0.0
    return Critical(1 / at.slope, bias, variance, at.growth / at.slope)


@lru_cache(maxsize=256)
def critical(curve: Curve, bias_variance: float = BIAS_VARIANCE) -> Critical:
    """The stable critical (σ_w², σ_b²) with ``bias_variance``, or the nearest there is.

    Along the edge of chaos q* varies. Of the stable points (χ∥ ≤ 1, so that the variance stays near
    q* at finite width too) it is the one with the wanted σ_b²; where none has it, the first: the
    half-stable one of GELU and SiLU (Roberts, Yaida and Hanin, 2022, section 5.3.4), or (2, 0) of
    ReLU, whose line is a point.

    Raises:
        UnsupportedError: Where no stable point exists.

    Example:
        >>> import torch
        >>> from bakeoff.suites.flow.quadrature import curve_of
        >>> found = critical(curve_of(torch.tanh))
        >>> round(found.weight_variance, 3), round(found.bias_variance, 3)
        (1.761, 0.05)
    """
    grid = [on_the_edge(curve, float(q)) for q in np.geomspace(SMALLEST, LARGEST, 17)]
    if all(point.bias_variance == 0 for point in grid):
        return on_the_edge(curve, 1.0)
    wanted = _root(curve, grid, lambda point: point.bias_variance - bias_variance)
    if wanted and _stable(wanted):
        return wanted
    first = next((i for i, point in enumerate(grid) if _stable(point)), None)
    if first is None:
        raise UnsupportedError(
            f"{curve.name}: it has no stable critical initialisation: wherever χ is 1, the "
            "variance would run away or σ_b² be negative"
        )
    limit = _root(curve, grid[: first + 1], lambda p: p.stability - 1) if first else None
    return limit if limit and limit.bias_variance >= 0 else grid[first]


def _stable(point: Critical) -> bool:
    return point.stability <= 1 + ROUNDING and point.bias_variance >= 0


def _root(curve: Curve, grid: list[Critical], of: Callable[[Critical], float]) -> Critical | None:
    """The last point at which ``of`` changes its sign, found between two of the grid."""
    from scipy import optimize  # takes a third of a second to import

    for before, after in reversed(list(itertools.pairwise(grid))):
        if of(before) * of(after) < 0:
            log_variance = optimize.brentq(
                lambda log: of(on_the_edge(curve, math.exp(log))),
                math.log(before.fixed_point),
                math.log(after.fixed_point),
                xtol=1e-9,
            )
            return on_the_edge(curve, math.exp(float(log_variance)))
    return None
