"""Sigmoid's gradient vanishes with depth; tanh's too, less; ReLU's does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.variants import Activation
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.depth import first_to_last
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.flow.initialisation import initialisation_for
from bakeoff.suites.flow.stacks import ActivationStack

DEPTH, WIDTH, ROWS = 30, 256, 32
#: Each with the initialisation that was made for it.
INITIALISATIONS = {"sigmoid": "xavier", "tanh": "xavier", "rectifier": "he"}


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The gradient's norm at the first pre-activation ÷ at the last, at initialisation."""
    found = {role: _ratio(experiment, role) for role in INITIALISATIONS}
    return {**found, "less": found["tanh"] / found["sigmoid"]}


def _ratio(experiment: Experiment, role: str) -> float:
    variant = experiment.variant(role)
    assert isinstance(variant, Activation)
    initialisation = initialisation_for(INITIALISATIONS[role], variant)
    stack = ActivationStack(variant, DEPTH, WIDTH, initialisation, experiment.generator(1))
    return first_to_last(experiment, stack, ROWS, WIDTH)


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim: vanishing is to lose more than half of it over 30 layers."""
    told = "gradient at layer 1 ÷ at layer 30"
    yield Claim(
        "vanishing_gradient",
        "Sigmoid's gradient vanishes with depth; tanh's too, less; ReLU's does not, with the right "
        "initialisation.",
        "Glorot and Bengio 2010, §3.2; He et al. 2015, §2.2",
        number=2,
        roles={"sigmoid": "sigmoid", "tanh": "tanh", "rectifier": "relu"},
        criteria=(
            Criterion("sigmoid", f"{told}, sigmoid, Xavier", below=0.5, log=True),
            Criterion("tanh", f"{told}, tanh, Xavier", below=0.5, log=True),
            Criterion("less", "this of tanh ÷ of sigmoid", above=1, log=True),
            Criterion("rectifier", f"{told}, ReLU, He", above=0.5, below=2, log=True),
        ),
        measure=measure,
    )
