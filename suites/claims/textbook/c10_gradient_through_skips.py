"""Through a skip the gradient reaches the first layer undiminished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.variants import Connection
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.depth import first_to_last
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.flow.initialisation import Initialisation
from bakeoff.suites.flow.stacks import ConnectionStack

DEPTH, WIDTH, ROWS = 32, 64, 32
#: With weights of variance 1 / fan_in, and a ReLU between them, a branch keeps half of the squared
#: norm: without a skip little arrives.
LOSSY = Initialisation("xavier", 1.0)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The gradient's norm at the output of the first layer ÷ at the last, at initialisation."""
    return {role: _ratio(experiment, role) for role in ("skip", "plain")}


def _ratio(experiment: Experiment, role: str) -> float:
    variant = experiment.variant(role)
    assert isinstance(variant, Connection)
    generator = experiment.generator(1)
    stack = ConnectionStack(variant, DEPTH, WIDTH, generator, initialisation=LOSSY)
    return first_to_last(experiment, stack, ROWS, WIDTH)


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim: undiminished is to keep nine tenths; more than all may arrive."""
    yield Claim(
        "gradient_through_skips",
        "Through a skip the gradient reaches the first layer undiminished.",
        "He et al. 2016b, Identity Mappings in Deep Residual Networks, §2, equation 5",
        number=10,
        roles={"skip": "residual", "plain": "plain"},
        criteria=(
            Criterion("skip", "gradient at layer 1 ÷ at layer 32, with skips", above=0.9, log=True),
            Criterion("plain", "gradient at layer 1 ÷ at layer 32, without", below=0.5, log=True),
        ),
        measure=measure,
    )
