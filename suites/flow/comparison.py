"""A stack of activations beside what mean-field theory says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bakeoff.registry.variants import Activation
from bakeoff.suites.flow.draws import activation_sample
from bakeoff.suites.flow.initialisation import Initialisation, initialisation_for
from bakeoff.suites.flow.quadrature import Curve
from bakeoff.suites.flow.samples import Sample, records_of
from bakeoff.suites.flow.theory import chi, fixed_point, variance_map
from bakeoff.suites.flow.training import STEPS
from bakeoff.suites.records import Cell, Record

__all__ = ["activation_records", "variances"]

#: Beyond this a variance has run away, and its square leaves float64.
FARTHEST = 1e60


def activation_records(
    variant: Activation, cell: Cell, seeds: Sequence[int], curve: Curve | None
) -> Iterator[Record]:
    """The records of a stack of activations.

    Args:
        variant: The activation.
        cell: Its extra holds the depth and the name of the initialisation.
        seeds: One draw each.
        curve: Of the activation, where it is elementwise: only then has theory a word.
    """
    depth = int(cell.extra["depth"])
    initialisation = initialisation_for(str(cell.extra["initialisation"]), variant, curve)
    mortal = curve is None or _is_zero_somewhere(curve)
    steps = STEPS if mortal else 0
    samples = [
        activation_sample(variant, cell.case, depth, initialisation, seed, curve, steps)
        for seed in seeds
    ]
    remarks = {"dead_fraction_trained": f"after {STEPS} steps of sign descent"}
    theory = variances(curve, initialisation, depth) if curve else []
    if curve and 0 < theory[-1] < math.inf:
        samples = [_against(theory[-1], sample) for sample in samples]
        weight, bias = initialisation.weight_variance, initialisation.bias_variance
        stays = fixed_point(curve, weight, bias, start=theory[0])
        remarks["pre_activation_variance"] = f"theory {theory[-1]:.4g}, fixed point {stays:.4g}"
        growth = [chi(curve, q, weight) for q in theory[:-1]]
        expected = math.exp(sum(math.log(max(x, 1e-300)) for x in growth) / max(1, len(growth)))
        yield Record(cell, "chi_theory", expected)
    yield from records_of(cell, samples, remarks)
    if not mortal:
        reason = "it can't die: it is nowhere exactly zero"
        yield Record(cell, "dead_fraction_trained", 0.0, reason=reason)


def variances(curve: Curve, initialisation: Initialisation, depth: int) -> list[float]:
    """q_1 … q_L of a stack on x ~ N(0, 1), by the variance map; infinite where it has run away.

    Example:
        >>> import torch
        >>> from bakeoff.suites.flow.initialisation import HE
        >>> from bakeoff.suites.flow.quadrature import curve_of
        >>> [round(q, 6) for q in variances(curve_of(torch.relu), HE, 3)]
        [2.0, 2.0, 2.0]
    """
    weight, bias = initialisation.weight_variance, initialisation.bias_variance
    found = [weight + bias]
    while len(found) < depth:
        last = found[-1]
        at_rest = len(found) > 1 and abs(last - found[-2]) <= 1e-9 * last
        if at_rest or not 1 / FARTHEST < last < FARTHEST:
            found.append(last if at_rest or last < 1 else math.inf)
        else:
            found.append(variance_map(curve, last, weight, bias))
    return found


def _against(theory: float, sample: Sample) -> Sample:
    measured = sample.profiles["pre_activation_variance"][-1]
    return replace(sample, values={**sample.values, "q_map_ratio": measured / theory})


def _is_zero_somewhere(curve: Curve) -> bool:
    """Whether whole intervals are mapped to exactly 0, so that a unit can be silent on all data."""
    values, _ = curve(np.linspace(-5, 5, 1001))
    return bool((values == 0).sum() > 1)
