"""Computing exponentials costs: ReLU is the cheapest to compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.suites.calls import Call
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import calls_of, ratio_of_times
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.statistics import LEAST_FLOOR

#: What fits in a cache, so that computing counts and not memory.
SHAPE = FeatureShape(1, 128, 256)
ROLES = {"rectifier": "relu", "sigmoid": "sigmoid", "tanh": "tanh"}
#: Direction, mode, and against whom: compiling takes seconds for each.
WAYS = (
    ("forward", "eager", ("sigmoid", "tanh")),
    ("training", "eager", ("sigmoid", "tanh")),
    ("forward", "compiled", ("sigmoid",)),
    ("training", "compiled", ("sigmoid",)),
)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The time of the cheapest with an exponential ÷ that of ReLU, each by its best forward."""
    found = {}
    for direction, mode, others in WAYS:
        make = partial(_calls, experiment, direction, mode, others)
        calls = experiment.once(f"{direction} {mode}", make)
        ratios = [ratio_of_times(calls, other, "rectifier", experiment) for other in others]
        found[f"{direction}_{mode}"] = min(ratios)
    return found


def _calls(
    experiment: Experiment, direction: str, mode: str, others: tuple[str, ...]
) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for role in ("rectifier", *others):
        experiment.alive()  # compiling takes its time
        case = Case(
            kind="activation",
            shape=SHAPE,
            options=experiment.variant(role).options,
            device=experiment.device,
            direction=direction,
            mode=mode,
        )
        calls |= calls_of(experiment, role, case)
    return calls


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim: slower is what is slower by more than two equals come out apart."""
    yield Claim(
        "exponentials_cost",
        "Computing exponentials costs: ReLU is the cheapest to compute.",
        "Glorot, Bordes and Bengio 2011, §3.1",
        number=4,
        roles=ROLES,
        criteria=tuple(
            Criterion(
                f"{direction}_{mode}",
                f"time of {' or '.join(others)} ÷ ReLU's, {direction}, {mode}",
                above=LEAST_FLOOR,
                log=True,
                timed=True,
            )
            for direction, mode, others in WAYS
        ),
        measure=measure,
    )
