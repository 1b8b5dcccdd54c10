"""How much of a gradient reaches the first layer of a stack."""

from __future__ import annotations

import torch

from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.flow.measures import grad_norm_ratio
from bakeoff.suites.flow.stacks import Stack, gradient_norms

__all__ = ["first_to_last"]


def first_to_last(experiment: Experiment, stack: Stack, rows: int, width: int) -> float:
    """The gradient's norm at the first layer ÷ at the last, for normal rows and cotangents.

    Args:
        experiment: Whose seed draws both, as streams 2 and 3.
        stack: In float64.
        rows: Number of rows.
        width: Features of a row.
    """
    x = experiment.normal(rows, width, stream=2, dtype=torch.float64)
    states = stack.to(experiment.device).states(x)
    cotangent = experiment.normal(rows, width, stream=3, dtype=torch.float64)
    return grad_norm_ratio(gradient_norms(states, cotangent))
