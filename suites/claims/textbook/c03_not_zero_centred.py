"""Sigmoid is not zero-centred and converges more slowly; tanh is, and converges faster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import Networks, digits, train_on
from bakeoff.suites.flow.quadrature import curve_of, moments

#: Two hidden layers, as in the networks that the source speaks of, and plain gradient descent.
SIZES = (64, 32, 32, 10)
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
#: Mean cross-entropy on the test digits; chance is 2.3.
TARGET = 0.3


class Centred(Networks):
    """φ(z) − E[φ(z)] in the place of φ(z), and biases that make up for it.

    It begins as the same function as the network of φ, and can express the same functions: only
    the mean of what its layers pass on differs.
    """

    def __init__(self, experiment: Experiment, role: str, runs: int) -> None:
        super().__init__(experiment, role, SIZES, runs)
        self.mean = moments(curve_of(experiment.variant(role))).mean
        with torch.no_grad():
            for weight, bias in list(zip(self.weights, self.biases, strict=True))[1:]:
                bias += self.mean * weight.sum(1)

    def activate(self, layer: int, z: torch.Tensor) -> torch.Tensor:
        """φ(z) − E[φ(z)]."""
        return super().activate(layer, z) - self.mean


def count(experiment: Experiment) -> Mapping[str, float]:
    """E[φ(z)] for z ~ N(0, 1), by quadrature."""
    return {
        f"mean_{role}": moments(curve_of(experiment.variant(role))).mean
        for role in experiment.roles
    }


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Steps to TARGET on handwritten digits, each network at its own best rate."""
    steps = experiment.at_scale(250, 600)
    data = digits(experiment)

    def steps_of(networks: Networks) -> int:
        curves = train_on(networks, data, RATES, steps, experiment=experiment)
        return curves.steps_to(TARGET)

    positive = steps_of(Networks(experiment, "positive", SIZES, len(RATES)))
    centred = steps_of(Networks(experiment, "centred", SIZES, len(RATES)))
    shifted = steps_of(Centred(experiment, "positive", len(RATES)))
    return {"steps_ratio": positive / centred, "steps_ratio_shifted": positive / shifted}


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "not_zero_centred",
        "Sigmoid's output is not zero-centred, and that slows convergence; tanh's is and "
        "converges faster.",
        "LeCun, Bottou, Orr and Müller 1998, Efficient BackProp, §4.4",
        number=3,
        roles={"positive": "sigmoid", "centred": "tanh"},
        criteria=(
            Criterion("mean_positive", "mean of sigmoid(z), z normal", above=0.1),
            Criterion("mean_centred", "mean of tanh(z), z normal", above=-0.01, below=0.01),
            Criterion("steps_ratio", "steps with sigmoid ÷ with tanh", above=1.0, log=True),
            Criterion(
                "steps_ratio_shifted",
                "steps with sigmoid ÷ with sigmoid minus its mean",
                above=1.0,
                log=True,
            ),
        ),
        count=count,
        measure=measure,
        needs=("scikit-learn",),
    )
