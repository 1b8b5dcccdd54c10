"""ReLU units die at high learning rates and stay dead; with Leaky ReLU and PReLU they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import Networks, digits, train_on

SIZES = (64, 64, 64, 10)
#: Adam's usual rate, and a hundred times as much. Adam, since its steps are as large as the rate
#: says: with plain descent the same rate that kills ReLU makes Leaky ReLU overflow.
USUAL, HIGH = 1e-3, 1e-1


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The share of dead hidden units after training at HIGH, and how many stay so at USUAL.

    A unit is dead if no training digit brings any gradient through it. The two networks of an
    activation begin alike; the second of them is trained at the high rate first.
    """
    steps, data = experiment.at_scale(60, 300), digits(experiment)
    found = {}
    for role in experiment.roles:
        networks = Networks(experiment, role, SIZES, 2)
        train_on(networks, data, (USUAL, HIGH), steps, experiment=experiment, method="adam")
        low, high = dead = _dead(networks, data.train.x)
        found[f"dead_{role}"] = float(high.float().mean())
        if role == "rectifier":
            found["dead_at_usual_rate"] = float(low.float().mean())
            train_on(networks, data, (USUAL, USUAL), steps, experiment=experiment, method="adam")
            after = _dead(networks, data.train.x)
            stayed = (dead & after)[1].sum() / high.sum().clamp_min(1)
            found["stay_dead"] = float(stayed)
    return found


def _dead(networks: Networks, x: torch.Tensor) -> torch.Tensor:
    """Which hidden units have a derivative of zero on all of ``x``, (runs, units)."""
    each = []
    for layer, z in enumerate(networks.layers(x)[:-1]):
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(networks.activate(layer, leaf).sum(), leaf)
        each.append((slope == 0).all(0))
    return torch.cat(each, 1)


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "relu_dies",
        "ReLU units die at high learning rates and stay dead; with Leaky ReLU and PReLU they do "
        "not.",
        "Maas, Hannun and Ng 2013, §2; He et al. 2015, §2.1",
        number=5,
        roles={"rectifier": "relu", "leaky": "leaky_relu", "learned": "prelu"},
        criteria=(
            Criterion("dead_rectifier", "dead share of ReLU units, high rate", above=0.1),
            Criterion("dead_at_usual_rate", "the same, usual rate", below=0.05),
            Criterion("stay_dead", "of the dead, so after training at the usual rate", above=0.9),
            Criterion("dead_leaky", "dead share with Leaky ReLU, high rate", below=0.01),
            Criterion("dead_learned", "dead share with PReLU, high rate", below=0.01),
        ),
        measure=measure,
        needs=("scikit-learn",),
    )
