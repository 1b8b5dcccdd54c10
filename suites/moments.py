"""Sums of squares of differences over elements and draws, in all and along each dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

__all__ = ["Moments"]


@dataclass
class Moments:
    """What is known of one quantity, by sort of difference (an error, a rounding).

    Args:
        count: How many elements were added.
        totals: By sort the sum of squares over all of them.
        products: By sort the sum of products with what is exact.
        counts: For each dimension, how many elements were added at each place along it.
        along: By sort, for each dimension, the sum of squares at each place.
    """

    count: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    products: dict[str, float] = field(default_factory=dict)
    counts: list[torch.Tensor] = field(default_factory=list)
    along: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def count_where(self, counted: torch.Tensor) -> None:
        """Count the elements of a draw that are True."""
        self.count += int(counted.sum())
        self.counts = _sum_along_each(counted.double(), self.counts)

    def add(self, sort: str, difference: torch.Tensor, exact: torch.Tensor) -> None:
        """Add the differences of a draw, which are zero where they do not count."""
        squares = difference.square()
        self.totals[sort] = self.totals.get(sort, 0.0) + float(squares.sum())
        self.products[sort] = self.products.get(sort, 0.0) + float((difference * exact).sum())
        self.along[sort] = _sum_along_each(squares, self.along.get(sort, []))

    def rms(self, sort: str) -> float:
        """The root of the mean square over all elements."""
        return math.sqrt(self.totals.get(sort, 0.0) / max(1, self.count))

    def rms_along(self, sort: str, dim: int) -> torch.Tensor:
        """The same at each place along a dimension."""
        return (self.along[sort][dim] / self.counts[dim].clamp(min=1)).sqrt()

    @property
    def features(self) -> int:
        """The size of the last dimension."""
        return len(self.counts[-1]) if self.counts else 1

    @property
    def rows(self) -> int:
        """How many elements were added for each place along the last dimension."""
        return int(self.counts[-1].max()) if self.counts else self.count


def _sum_along_each(values: torch.Tensor, before: list[torch.Tensor]) -> list[torch.Tensor]:
    """For each dimension the sums over all others, added to those of earlier draws."""
    dims = range(values.dim())
    sums = [values.sum([other for other in dims if other != dim]) for dim in dims]
    # A sum over no dimension would be one over all.
    sums = [values] if values.dim() == 1 else sums
    return [a + b for a, b in zip(sums, before, strict=True)] if before else sums
