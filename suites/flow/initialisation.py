"""Initialisations: those of the field, and the critical one of an activation by quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bakeoff.registry.errors import UnknownNameError, did_you_mean
from bakeoff.registry.variants import Activation
from bakeoff.suites.flow.quadrature import Curve, curve_of
from bakeoff.suites.flow.theory import critical
from bakeoff.suites.selection import CHOICES

__all__ = ["HE", "INITIALISATIONS", "Initialisation", "initialisation_for"]

#: What is measured: the names that ``--initialisation`` takes.
INITIALISATIONS = CHOICES["initialisations"]


@dataclass(frozen=True)
class Initialisation:
    """A distribution of weights and biases.

    Args:
        name: What it is called.
        weight_variance: σ_w²: a weight has the variance σ_w² / fan_in.
        bias_variance: σ_b².
        orthogonal: Whether W / σ_w is a random orthogonal matrix, not one of normal entries.
    """

    name: str
    weight_variance: float
    bias_variance: float = 0.0
    orthogonal: bool = False

    def weight(self, fan_out: int, fan_in: int, generator: torch.Generator) -> torch.Tensor:
        """A weight (fan_out, fan_in), float64.

        Example:
            >>> w = Initialisation("", 4.0, orthogonal=True).weight(8, 8, torch.Generator())
            >>> torch.allclose(w @ w.T, 4 * torch.eye(8, dtype=torch.float64))
            True
        """
        weight = torch.empty(fan_out, fan_in, dtype=torch.float64)
        if self.orthogonal:
            return nn.init.orthogonal_(weight, math.sqrt(self.weight_variance), generator)
        spread = math.sqrt(self.weight_variance / fan_in)
        return weight.normal_(std=spread, generator=generator)


#: He et al. (2015), equation 10: variance 2 / fan_in, right for ReLU.
HE = Initialisation("he", 2.0)


def initialisation_for(
    name: str, activation: Activation, curve: Curve | None = None
) -> Initialisation:
    """The initialisation called ``name`` for a stack of ``activation``.

    ``he``: variance 2 / fan_in (He et al., 2015, equation 10). ``xavier``: 2 / (fan_in + fan_out)
    (Glorot and Bengio, 2010, equation 12). ``orthogonal``: a random orthogonal matrix of gain 1
    (Saxe et al., 2014), torch's default. ``critical``: normal weights on the activation's edge of
    chaos, see :func:`bakeoff.suites.flow.theory.critical`; ``critical_orthogonal``: orthogonal ones
    of the same variance (Pennington et al., 2017).

    Args:
        name: One of :data:`INITIALISATIONS`.
        activation: What stands between the layers.
        curve: Its curve, where it is at hand, or where options differ from their defaults.

    Raises:
        UnknownNameError: For any other name.
        UnsupportedError: Where a critical one is asked for and there is none.

    Example:
        >>> import bakeoff
        >>> initialisation_for("xavier", bakeoff.load()["relu"]).weight_variance
        1.0
    """
    match name:
        case "he":
            return HE
        case "xavier":
            fan_out = 2 if activation.gated else 1  # by fan_in
            return Initialisation(name, 2 / (1 + fan_out))
        case "orthogonal":
            return Initialisation(name, 1.0, orthogonal=True)
        case "critical" | "critical_orthogonal":
            point = critical(curve or curve_of(activation))
            return Initialisation(
                name,
                point.weight_variance,
                point.bias_variance,
                orthogonal=name == "critical_orthogonal",
            )
    hint = did_you_mean(name, INITIALISATIONS)
    raise UnknownNameError(f"no initialisation is called {name!r}; {hint}")
