"""From numbers to a verdict: intervals over seeds, and on which side of the bounds they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from scipy import special

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UsageError, typed
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment

__all__ = ["LEVEL", "Evidence", "Verdict", "evidence", "judged", "verdict_of"]

#: Of all intervals of one claim together.
LEVEL = 0.95


class Verdict(StrEnum):
    """What is said of a criterion, and of a claim."""

    HOLDS = "holds"
    FALSE = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Evidence:
    """What was found for one criterion.

    Args:
        criterion: The criterion.
        value: The mean over seeds, the geometric one of a ratio; or the exact number.
        low: The lower end of its interval; the number itself where it is exact.
        high: The upper end.
        n: Number of seeds; None where it is exact.
    """

    criterion: Criterion
    value: float
    low: float
    high: float
    n: int | None = None

    @property
    def verdict(self) -> Verdict:
        """On which side of the bounds the whole interval lies."""
        above = -math.inf if self.criterion.above is None else self.criterion.above
        below = math.inf if self.criterion.below is None else self.criterion.below
        if above < self.low and self.high < below:
            return Verdict.HOLDS
        if self.high <= above or self.low >= below:
            return Verdict.FALSE
        return Verdict.UNDECIDED


def evidence(criterion: Criterion, samples: Sequence[float], level: float) -> Evidence:
    """The mean of one number a seed, with Student's t interval.

    Where the criterion is a ratio, both are those of the logarithms.

    Args:
        criterion: The criterion.
        samples: One number for each seed, at least two.
        level: Of the interval.

    Raises:
        UsageError: For fewer than two samples.

    Example:
        >>> criterion = Criterion("ratio", "one ÷ other", above=1, log=True)
        >>> found = evidence(criterion, [2.0, 8.0], 0.95)
        >>> round(found.value, 6), found.verdict
        (4.0, <Verdict.UNDECIDED: 'undecided'>)
    """
    if len(samples) < 2:
        raise UsageError(
            f"criterion {criterion.name}: got {len(samples)} seed, expected at least 2: an "
            "interval comes from what differs between seeds"
        )
    values = [math.log(x) for x in samples] if criterion.log else list(samples)
    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1) / n)
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * error
    back: Callable[[float], float] = _exp if criterion.log else float
    return Evidence(criterion, back(mean), back(mean - reach), back(mean + reach), n)


def verdict_of(found: Sequence[Evidence]) -> Verdict:
    """Of a claim: it holds where every criterion does, and not where one does not."""
    verdicts = {one.verdict for one in found}
    if Verdict.FALSE in verdicts:
        return Verdict.FALSE
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.HOLDS


def judged(
    claim: Claim,
    catalog: Catalog,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    scale: str = "quick",
    device: str = "cpu",
    alive: Callable[[], None] = lambda: None,
) -> list[Evidence]:
    """Measure a claim and return its evidence; :func:`verdict_of` says what follows.

    The level of each interval is Bonferroni's: with m of them its error is 5% / m.

    Raises:
        UsageError: Where the claim returns other numbers than it has criteria for, or where a
            number is not finite.
        Exception: Whatever the claim's functions raise.
    """
    samples: dict[str, list[float]] = {criterion.name: [] for criterion in claim.criteria}
    exact: Mapping[str, float] = {}
    kept: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        if claim.count:
            alive()
            torch.manual_seed(seeds[0])
            first = Experiment(catalog, claim.roles, seeds[0], scale, device, alive, kept)
            exact = _checked(claim, claim.count(first))
        for seed in seeds if claim.measure else ():
            assert claim.measure is not None
            alive()
            torch.manual_seed(seed)
            experiment = Experiment(catalog, claim.roles, seed, scale, device, alive, kept)
            for name, value in _checked(claim, claim.measure(experiment)).items():
                samples[name].append(value)
    _require_all(claim, exact, samples, len(seeds) if claim.measure else 0)
    level = 1 - (1 - LEVEL) / max(1, len(claim.criteria) - len(exact))
    return [
        Evidence(criterion, *(exact[criterion.name],) * 3)
        if criterion.name in exact
        else evidence(criterion, samples[criterion.name], level)
        for criterion in claim.criteria
    ]


def _checked(claim: Claim, found: Mapping[str, float]) -> dict[str, float]:
    """The numbers, each finite and of a criterion."""
    criteria = {criterion.name: criterion for criterion in claim.criteria}
    for name, value in found.items():
        if name not in criteria:
            raise UsageError(
                f"claim {claim.name}: it measured {name!r}, expected its criteria: "
                f"{', '.join(criteria)}"
            )
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(
                f"claim {claim.name}: {name}: got {typed(value)}, expected a finite number"
            )
        if criteria[name].log and value <= 0:
            raise UsageError(
                f"claim {claim.name}: {name}: got {value:g}, expected a positive number, since it "
                "is a ratio"
            )
    return {name: float(value) for name, value in found.items()}


def _require_all(
    claim: Claim, exact: Mapping[str, float], samples: Mapping[str, Sequence[float]], seeds: int
) -> None:
    for name, values in samples.items():
        if name in exact and values:
            raise UsageError(f"claim {claim.name}: {name}: both measure and count return it")
        if name not in exact and len(values) < max(seeds, 1):
            raise UsageError(
                f"claim {claim.name}: {name}: got {len(values)} numbers of {seeds} seeds, "
                "expected one a seed from measure, or one from count"
            )


def _exp(x: float) -> float:
    """exp without an OverflowError: an interval may reach to infinity."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
