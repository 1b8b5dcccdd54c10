"""How far a quantity is from the oracle, and what is judged of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CEILING", "LIMIT", "SLICE_LIMIT", "Errors", "ReferenceLoss", "Slice", "ratio_of"]

#: A result is wrong when its error is more than this many budgets.
LIMIT = 2.0
#: The same for a slice along one dimension, of which both the error and the budget are estimated
#: from fewer elements.
SLICE_LIMIT = 2 * LIMIT
#: The share of a quantity's RMS above which an error of the reference leaves nothing to judge by.
CEILING = 0.1


@dataclass(frozen=True)
class Slice:
    """The part of a quantity at one index along one dimension.

    Args:
        dim: The dimension.
        index: The place along it.
        ratio: Its RMS error in its own budgets.
    """

    dim: int
    index: int
    ratio: float


@dataclass(frozen=True)
class Errors:
    """How far a quantity is from the oracle.

    Args:
        name: The quantity: ``"output"``, or the leaf whose gradient it is.
        largest: The largest absolute error.
        rms: The root of the mean square error.
        budget: What it may be, once.
        finite: Whether it is finite wherever the oracle and the reference are.
        slice: The slice with the largest ratio; None where none has enough elements.
        slope: By what share the quantity is too large throughout; 0 where that is not judged.
        slope_limit: How far from 0 the slope may be.
    """

    name: str
    largest: float
    rms: float
    budget: float
    finite: bool
    slice: Slice | None = None
    slope: float = 0.0
    slope_limit: float = math.inf

    @property
    def ratio(self) -> float:
        """RMS error in budgets."""
        return ratio_of(self.rms, self.budget) if self.finite else math.inf

    @property
    def excess(self) -> float:
        """The largest of all that is judged, each in units of its limit: right up to 1."""
        in_slice = self.slice.ratio / SLICE_LIMIT if self.slice else 0.0
        return max(self.ratio / LIMIT, in_slice, abs(self.slope) / self.slope_limit)

    @property
    def right(self) -> bool:
        """Whether it stays within its limits."""
        return self.excess <= 1

    def explain(self) -> str:
        """What was got and what was expected."""
        what = "the output" if self.name == "output" else f"the gradient of {self.name}"
        if not self.finite:
            return f"{what} is not finite where the reference is"
        if self.ratio <= LIMIT and self.slice and self.slice.ratio > SLICE_LIMIT:
            return (
                f"{what}, at index {self.slice.index} of dimension {self.slice.dim}, has an RMS "
                f"error of {self.slice.ratio:.3g} budgets, expected at most {SLICE_LIMIT:g}"
            )
        if self.ratio <= LIMIT and abs(self.slope) > self.slope_limit:
            return (
                f"{what} is off by {100 * self.slope:+.3g}% throughout, expected at most "
                f"±{100 * self.slope_limit:.3g}%"
            )
        return (
            f"{what} has an RMS error of {self.rms:.3g}, expected at most {LIMIT:g} × "
            f"{self.budget:.3g} (largest error {self.largest:.3g})"
        )


@dataclass(frozen=True)
class ReferenceLoss:
    """What the reference itself loses of a quantity in the dtype of a case.

    Args:
        name: The quantity.
        dtype: Name of the dtype.
        error: Its RMS error, as a share of the RMS of what is exact.
        lost: The share of elements that are not finite, of those that float64 makes finite and
            the dtype can hold.
    """

    name: str
    dtype: str
    error: float
    lost: float

    @property
    def largest(self) -> float:
        """The larger of both shares."""
        return max(self.error, self.lost)

    @property
    def is_tolerable(self) -> bool:
        """Whether something can be judged by it."""
        return self.largest <= CEILING

    def explain(self) -> str:
        """The numbers, and what to do."""
        what = "output" if self.name == "output" else f"gradient of {self.name}"
        lost = f", {100 * self.lost:.3g}% of it is not finite" if self.lost else ""
        return (
            f"in {self.dtype} the reference's own error is {100 * self.error:.3g}% of the RMS of "
            f"its {what}{lost}, and above {100 * CEILING:.3g}% it can judge nothing: accumulate "
            "in float32, or refuse the dtype in `supports`"
        )


def ratio_of(error: float, budget: float) -> float:
    """An error in budgets; without a budget any error is infinitely many, and none is none."""
    if budget == 0:
        return 0.0 if error == 0 else math.inf
    return error / budget
