"""The learning rate of each variant: successive halving on validation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bakeoff.suites.learning.training import Training

__all__ = ["RATES", "Found", "best_rate"]

#: Half a decade apart, about where AdamW trains models of this size.
RATES = (1e-3, 3e-3, 1e-2)
#: The share of a run after which the worse half is given up for the first time. Not earlier: a loss
#: may lie on a plateau for a third of a run before anything is learned.
FIRST = 0.5


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        rate: The learning rate.
        losses: The last validation loss of each rate that was tried, infinite where it diverged.
    """

    rate: float
    losses: dict[float, float]

    @property
    def remark(self) -> str:
        """What was tried, and whether a better rate may lie outside."""
        tried = ", ".join(f"{rate:g}" for rate in self.losses)
        at_edge = len(self.losses) > 1 and self.rate in (min(self.losses), max(self.losses))
        return f"of {tried}" + (", at the edge: a better one may lie beyond" if at_edge else "")


def best_rate(start: Callable[[float], Training], rates: Sequence[float] = RATES) -> Found:
    """The learning rate with the least validation loss, by successive halving.

    All rates train for half of the steps; the better half of them, by validation loss, goes on for
    twice as long, to the end (Jamieson and Talwalkar, 2016, figure 1). Runs go on from where they
    paused, on the schedule of the whole run.

    Args:
        start: Makes the run of a learning rate; its seed should be none of those reported.
        rates: What is tried.
    """
    runs = {rate: start(rate) for rate in rates}
    left, share = list(rates), FIRST
    while len(left) > 1 and share <= 1:
        for rate in left:
            runs[rate].advance(round(share * runs[rate].steps))
        # Rates of equal loss, as several that diverged, keep their order: the smaller is safer.
        left = sorted(left, key=lambda rate: (runs[rate].validation, rate))
        left, share = left[: math.ceil(len(left) / 2)], 2 * share
    return Found(left[0], {rate: run.validation for rate, run in runs.items()})
