"""The initialisation of an activation, from its Gaussian expectations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.variants import Variant
from bakeoff.suites.flow.quadrature import curve_of, moments
from bakeoff.suites.flow.theory import BIAS_VARIANCE, Critical, critical

__all__ = ["Gains", "initialisation", "torch_gain"]

#: torch's names where ours differ.
_TORCH_NAMES = {"identity": "linear"}


@dataclass(frozen=True)
class Gains:
    """How to initialise the layers before an activation; z ~ N(0, 1) throughout.

    Args:
        name: The activation.
        second_moment: E[φ(z)²].
        gain: 1 / √E[φ(z)²]: with weights N(0, gain² / fan_in) a layer keeps E[h²] = 1. This is what
            He et al. (2015) derive for ReLU, √2.
        gain_of_deviation: 1 / std φ(z): outputs are as far from their mean as z. None where φ is
            constant.
        torch_gain: What ``torch.nn.init.calculate_gain`` says; None where it knows no such name.
        critical: σ_w² and σ_b² on the edge of chaos; None where there is no stable point.
        reason: Why ``critical`` is None.
    """

    name: str
    second_moment: float
    gain: float
    gain_of_deviation: float | None
    torch_gain: float | None
    critical: Critical | None
    reason: str = ""


def initialisation(
    activation: Variant | Callable[[torch.Tensor], torch.Tensor],
    *,
    bias_variance: float = BIAS_VARIANCE,
    options: Mapping[str, Any] | None = None,
) -> Gains:
    """What to initialise with before ``activation``, by quadrature.

    Args:
        activation: An elementwise activation, learnable ones at their initial parameters, or any
            function of a tensor that acts on each element alone.
        bias_variance: σ_b² of the critical initialisation, where there is a choice.
        options: Options that differ from their defaults.

    Raises:
        UnsupportedError: Where it is not elementwise, or zero everywhere.

    Example:
        >>> import bakeoff
        >>> found = bakeoff.initialisation(bakeoff.load()["tanh"])
        >>> round(found.gain, 4), round(found.torch_gain, 4)
        (1.5925, 1.6667)
        >>> round(found.critical.weight_variance, 3), round(found.critical.bias_variance, 3)
        (1.761, 0.05)
    """
    curve = curve_of(activation, options)
    at = moments(curve)
    if not at.second > 0:
        raise UnsupportedError(f"{curve.name}: it is zero wherever z ~ N(0, 1) comes to lie")
    try:
        point, reason = critical(curve, bias_variance), ""
    except UnsupportedError as error:
        point, reason = None, str(error)
    return Gains(
        curve.name,
        at.second,
        1 / math.sqrt(at.second),
        1 / at.deviation if at.deviation > 1e-6 * math.sqrt(at.second) else None,
        torch_gain(curve.name),
        point,
        reason,
    )


def torch_gain(name: str) -> float | None:
    """What ``torch.nn.init.calculate_gain`` says of this activation; None where it does not.

    Example:
        >>> torch_gain("selu"), torch_gain("gelu")
        (0.75, None)
    """
    try:
        return float(nn.init.calculate_gain(_TORCH_NAMES.get(name, name)))  # type: ignore[arg-type]
    except ValueError:
        return None
