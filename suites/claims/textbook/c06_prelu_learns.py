"""PReLU learns its slope, and it differs from layer to layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from scipy import special

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import Networks, digits, train_on

LAYERS, WIDTH = 5, 32
SIZES = (64, *[WIDTH] * LAYERS, 10)
RATE = 1e-2
#: What F of one-way analysis of variance exceeds in 5% of cases where all layers are alike.
CRITICAL = float(special.fdtri(LAYERS - 1, LAYERS * (WIDTH - 1), 0.95))


def measure(experiment: Experiment) -> Mapping[str, float]:
    """How far slopes move in training, and whether layers differ by more than their units do."""
    networks, data = Networks(experiment, "learned", SIZES, 1), digits(experiment)
    before = _slopes(networks)
    steps = experiment.at_scale(200, 1000)
    train_on(networks, data, (RATE,), steps, experiment=experiment, method="adam", every=steps)
    after = _slopes(networks)
    between = WIDTH * after.mean(1).var()
    within = after.var(1).mean()
    return {
        "moved": float((after - before).abs().mean()),
        "between_layers": float(between / within.clamp_min(1e-12)),
    }


def _slopes(networks: Networks) -> torch.Tensor:
    """(layers, units)."""
    slopes = [torch.as_tensor(activation.slope) for activation in networks.activations]
    return torch.stack(slopes).detach().clone()


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "prelu_learns",
        "PReLU learns its slope, and it differs from layer to layer.",
        "He et al. 2015, Delving Deep into Rectifiers, §2.1 and table 1",
        number=6,
        roles={"learned": "prelu"},
        criteria=(
            Criterion("moved", "mean change of a slope in training", above=0.02),
            Criterion(
                "between_layers", "variance between layers ÷ within (F)", above=round(CRITICAL, 2)
            ),
        ),
        measure=measure,
        needs=("scikit-learn",),
    )
