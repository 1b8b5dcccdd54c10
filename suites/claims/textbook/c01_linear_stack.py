"""A stack of linear layers is no more than one linear layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment

DEPTH, WIDTH, ROWS = 8, 32, 256


def measure(experiment: Experiment) -> Mapping[str, float]:
    """How far each stack is from the best affine map of its inputs, relative to its spread.

    x (ROWS, WIDTH) -> φ(… φ(x W_1) …) W_L, in float64; the map is fitted by least squares.
    """
    return {
        "residual": _residual(experiment, "linear"),
        "residual_with_bend": _residual(experiment, "nonlinear"),
    }


def _residual(experiment: Experiment, role: str) -> float:
    x = experiment.normal(ROWS, WIDTH, stream=1, dtype=torch.float64)
    weights = experiment.normal(DEPTH, WIDTH, WIDTH, stream=2, dtype=torch.float64)
    act, y = experiment.module(role, WIDTH).double(), x
    with torch.no_grad():
        for weight in weights * math.sqrt(2 / WIDTH):
            y = act(y) @ weight
        ones = torch.cat([x, torch.ones(ROWS, 1, dtype=x.dtype, device=x.device)], 1)
        fitted = ones @ torch.linalg.lstsq(ones, y).solution
        spread = y - y.mean(0)
        return float((y - fitted).norm() / spread.norm())


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "linear_stack",
        "A stack of linear layers is no more than one linear layer.",
        "Goodfellow, Bengio and Courville 2016, §6.1",
        number=1,
        roles={"linear": "identity", "nonlinear": "relu"},
        criteria=(
            Criterion("residual", "left by the best affine map of 8 linear layers", below=1e-9),
            Criterion("residual_with_bend", "left of 8 with ReLU between them", above=0.1),
        ),
        measure=measure,
    )
