"""SmeLU (Shamir et al., 2022, section 4, equation 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor, *, beta: float) -> torch.Tensor:
    """0 for x ≤ −β, (x + β)² / 4β between, x for x ≥ β."""
    between = (x + beta) ** 2 / (4 * beta)
    return torch.where(x <= -beta, torch.zeros_like(x), torch.where(x >= beta, x, between))


def clamped(x: torch.Tensor, *, beta: float) -> torch.Tensor:
    """The parabola up to its end, and from there on what is left of x: no branch is thrown away."""
    bend = x.clamp(-beta, beta).add(beta).square() / (4 * beta)
    # Not clamp(min=0), of which the slope at zero is 1: at x = β both parts would have one.
    return bend + torch.relu(x - beta)


@hookimpl
def bakeoff_variants() -> Iterator[Activation]:
    """SmeLU."""
    yield Activation(
        "smelu",
        forwards={"reference": reference, "clamped": clamped},
        options={"beta": 1.0},
        metadata=Metadata(
            title="SmeLU",
            summary="ReLU with a parabola in place of its kink.",
            formula=r"\phi(x) = \begin{cases} 0 & x \le -\beta \\ (x + \beta)^2 / 4\beta & "
            r"|x| \le \beta \\ x & x \ge \beta \end{cases}",
            strengths=("smooth", "exactly zero and exactly linear outside the bend", "cheap"),
            weaknesses=("units can die as with ReLU", "the width of the bend is to be chosen"),
            use_when="Repeated trainings should agree more than they do with ReLU.",
            tags=("hidden_layer", "rectifier"),
            paper=Paper(
                title="Real World Large Scale Recommendation Systems Reproducibility and Smooth "
                "Activations",
                authors=("Gil I. Shamir", "Dong Lin"),
                year=2022,
                url="https://arxiv.org/abs/2202.06499",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (0.0, math.inf),
                "zero_centred": False,
            },
        ),
    )
