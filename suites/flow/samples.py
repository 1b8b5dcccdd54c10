"""From the draws of one cell to its records: means over seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bakeoff.suites import statistics
from bakeoff.suites.records import Cell, Record
from bakeoff.suites.statistics import Estimate

__all__ = ["BY_LAYER", "Sample", "geometric_mean", "mean", "records_of"]

#: Begins the remark of a metric that has a value in each layer.
BY_LAYER = "by layer: "
#: Positive quantities that change by factors: their logarithms are averaged.
FACTORS = (
    "activation_variance",
    "chi",
    "grad_norm",
    "grad_norm_ratio",
    "grad_to_q",
    "grad_to_k",
    "grad_to_v",
    "jacobian_largest",
    "jacobian_mean",
    "jacobian_smallest",
    "jacobian_variance",
    "pre_activation_variance",
    "q_map_ratio",
    "rank_residual",
)
#: Profiles whose value is that of the first layer: where a gradient arrives last.
OF_THE_FIRST = ("grad_norm",)


@dataclass(frozen=True)
class Sample:
    """What one draw of a stack gave.

    Args:
        values: By metric.
        profiles: By metric a value for each layer.
    """

    values: Mapping[str, float]
    profiles: Mapping[str, Sequence[float]] = field(default_factory=dict)


def mean(samples: Sequence[float]) -> Estimate:
    """The mean over draws, with its interval; that of one draw is the draw.

    Example:
        >>> found = mean([1.0, 2.0, 3.0])
        >>> found.value, round(found.low, 3), round(found.high, 3), found.n
        (2.0, -0.484, 4.484, 3)
    """
    found = statistics.mean(samples)
    return found if found.n > 1 else Estimate(found.value, found.value, found.value, 1)


def geometric_mean(samples: Sequence[float]) -> Estimate:
    """The geometric mean of positive samples, with the interval of their logarithms.

    A zero among them, as a gradient below the least number, makes it zero.

    Example:
        >>> geometric_mean([1.0, 4.0]).value, geometric_mean([0.0, 1.0]).value
        (2.0, 0.0)
    """
    if min(samples) <= 0:
        return Estimate(0.0, 0.0, 0.0, len(samples))
    logs = mean([math.log(sample) for sample in samples])
    value, low, high = (math.exp(min(end, 700.0)) for end in (logs.value, logs.low, logs.high))
    return Estimate(value, low, high, logs.n)


def records_of(
    cell: Cell, samples: Sequence[Sample], remarks: Mapping[str, str] | None = None
) -> Iterator[Record]:
    """One record for each metric.

    Args:
        cell: The cell.
        samples: One for each seed.
        remarks: What stands beside a value, by metric.
    """
    remarks = remarks or {}
    for metric in samples[0].values:
        if not all(metric in sample.values for sample in samples):
            continue
        values = [sample.values[metric] for sample in samples]
        yield _record(cell, metric, values, remarks.get(metric, ""))
    for metric in samples[0].profiles:
        layers = list(zip(*(sample.profiles[metric] for sample in samples), strict=True))
        told = BY_LAYER + " ".join(_short(metric, layer) for layer in layers)
        values = list(layers[0 if metric in OF_THE_FIRST else -1])
        yield _record(cell, metric, values, "; ".join(filter(None, (remarks.get(metric), told))))


def _record(cell: Cell, metric: str, values: Sequence[float], remark: str) -> Record:
    if not all(math.isfinite(value) for value in values):
        bad = sum(not math.isfinite(value) for value in values)
        told = f"beyond float64 in {bad} of {len(values)} draws"
        return Record(cell, metric, n=len(values), reason="; ".join(filter(None, (told, remark))))
    found = _estimate(metric, values)
    return Record(
        cell, metric, found.value, low=found.low, high=found.high, n=found.n, reason=remark
    )


def _estimate(metric: str, values: Sequence[float]) -> Estimate:
    return geometric_mean(values) if metric in FACTORS else mean(values)


def _short(metric: str, values: Sequence[float]) -> str:
    """Three digits are enough for a curve; ``-`` is beyond float64."""
    if not all(math.isfinite(value) for value in values):
        return "-"
    return f"{_estimate(metric, values).value:.3g}"
