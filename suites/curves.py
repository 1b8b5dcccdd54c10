"""φ, φ′ and φ″ of an activation, from its reference in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.registry.variants import Activation
from bakeoff.suites.tensors import arguments_for

__all__ = ["Curves", "curves_of"]

#: Inputs from -REACH to REACH, in steps fine enough for the largest slope to six digits.
REACH, STEP = 6.0, 1e-3
#: Every so many of them is kept: what a picture shows.
KEPT = 200
#: Where an output depends on more than one feature, few others, and these are zero.
FEATURES = 8


@dataclass(frozen=True)
class Curves:
    """An activation as a function of one feature.

    Args:
        x: (P,): the inputs.
        values: (P,): φ.
        slopes: (P,): φ′, the derivative that the backward uses: at a kink, one of the two.
        bends: (P,): φ″; 0 at a kink.
    """

    x: torch.Tensor
    values: torch.Tensor
    slopes: torch.Tensor
    bends: torch.Tensor

    @property
    def largest_slope(self) -> float:
        """The largest \\|φ′\\| on these inputs."""
        return float(self.slopes.abs().max())

    @property
    def digits(self) -> str:
        """Every :data:`KEPT`-th value of φ, φ′ and φ″, to three significant digits."""
        return "/".join(
            ",".join(f"{value:.3g}" for value in curve[::KEPT].tolist())
            for curve in (self.values, self.slopes, self.bends)
        )


def curves_of(variant: Activation) -> Curves:
    """The first output against the first feature, the others being zero.

    A gated variant is shown as a function of its gate, with a value of 1 to let through.

    Example:
        >>> import bakeoff
        >>> curves = curves_of(bakeoff.load()["gelu"])
        >>> round(curves.largest_slope, 6)  # at √2
        1.128904
    """
    x = torch.linspace(-REACH, REACH, round(2 * REACH / STEP) + 1, dtype=torch.float64)
    shape = FeatureShape(batch=1, seq_len=x.numel(), features=FEATURES)
    case = Case(kind="activation", shape=shape, options=variant.options, dtype="float64")
    rows = torch.zeros(1, x.numel(), FEATURES, dtype=torch.float64)
    if variant.gated:
        rows[..., 0] = 1
    x.requires_grad_()
    data = rows.clone()
    data[0, :, FEATURES // 2 if variant.gated else 0] = x
    arguments = arguments_for(variant, case).replacing({"x": data})
    values = arguments.call(variant.forward("reference").fn)[0, :, 0]
    slopes = _derivative(values, x)
    return Curves(x.detach(), values.detach(), slopes.detach(), _derivative(slopes, x).detach())


def _derivative(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if not y.requires_grad:
        return torch.zeros_like(x)  # constant, as the slope of what is piecewise linear
    (found,) = torch.autograd.grad(y.sum(), x, create_graph=True, materialize_grads=True)
    return found
