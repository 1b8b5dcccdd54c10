"""The table from which an initialisation is taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bakeoff.reports.blocks import Code, Grid
from bakeoff.reports.units import number

__all__ = ["LEGEND", "initialisation_grid"]

LEGEND = (
    "By quadrature over z ~ N(0, 1). Gain: 1/√E[φ²]; weights N(0, gain²/fan_in) without biases "
    "keep the second moment of pre-activations at 1. 1/std: outputs vary as much as z does. torch: "
    "what calculate_gain says, if it knows the activation. Critical: weights N(0, σ_w²/fan_in), "
    "or orthogonal ones times σ_w, and biases N(0, σ_b²), for deep plain stacks: gradients "
    "neither vanish nor explode, and pre-activations stay at the variance q*."
)


def initialisation_grid(found: Iterable[Mapping[str, Any]]) -> Grid:
    """A row for each activation.

    Args:
        found: Its name, second_moment, gain, gain_of_deviation, torch_gain, and under critical
            weight_variance, bias_variance and fixed_point, each None where there is none.
    """
    rows = []
    for one in found:
        critical = one["critical"] or {}
        values = [one[name] for name in ("second_moment", "gain", "gain_of_deviation")]
        values += [one["torch_gain"]]
        values += [critical.get(n) for n in ("weight_variance", "bias_variance", "fixed_point")]
        rows.append((Code(one["name"]), *map(_exact, values)))
    headers = ("activation", "E[φ²]", "gain", "1/std", "torch", "σ_w²", "σ_b²", "q*")
    return Grid(headers, tuple(rows))


def _exact(value: float | None) -> str:
    """Five digits: these are computed, and are to be copied."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else number(value)
