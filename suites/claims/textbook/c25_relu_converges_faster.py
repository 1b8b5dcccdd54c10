"""A network with ReLU converges in fewer steps than with sigmoid or tanh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import Networks, digits, train_on

#: Four layers, as the network of the source's figure 1 has; no regularisation, as there.
SIZES = (64, 32, 32, 32, 10)
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
#: Mean cross-entropy on the test digits; chance is 2.3.
TARGET = 0.3


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Steps to TARGET on handwritten digits, each activation at its own best rate, as the source.

    The source's network is convolutional and its initialisation the same for all; here the layers
    are dense, and each activation begins with the weights that keep its second moment, so that
    none is held back by its scale.
    """
    steps = experiment.at_scale(250, 600)
    data = digits(experiment)
    taken = {}
    for role in experiment.roles:
        networks = Networks(experiment, role, SIZES, len(RATES))
        curves = train_on(networks, data, RATES, steps, experiment=experiment)
        taken[role] = curves.steps_to(TARGET)
    return {
        "steps_ratio_sigmoid": taken["sigmoid"] / taken["rectifier"],
        "steps_ratio_tanh": taken["tanh"] / taken["rectifier"],
    }


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "relu_converges_faster",
        "A network with ReLU converges in fewer steps than with sigmoid or tanh.",
        "Krizhevsky, Sutskever and Hinton 2012, §3.1 and figure 1",
        number=25,
        roles={"rectifier": "relu", "sigmoid": "sigmoid", "tanh": "tanh"},
        criteria=(
            Criterion("steps_ratio_sigmoid", "steps with sigmoid ÷ with ReLU", above=1.0, log=True),
            Criterion("steps_ratio_tanh", "steps with tanh ÷ with ReLU", above=1.0, log=True),
        ),
        measure=measure,
        needs=("scikit-learn",),
    )
