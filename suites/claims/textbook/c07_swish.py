"""Swish is smooth and not monotonic, somewhat better than ReLU in deep networks, and dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.suites.calls import Call
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import calls_of, ratio_of_times
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import Networks, Split, digits, train_on
from bakeoff.suites.flow.quadrature import curve_of
from bakeoff.suites.statistics import LEAST_FLOOR

#: 13 layers, and Adam, without which so deep a network learns little in so few steps.
SIZES = (64, *[32] * 12, 10)
RATES = (0.001, 0.003, 0.01)


def count(experiment: Experiment) -> Mapping[str, float]:
    """The largest jump of the derivative between neighbours 10⁻⁴ apart, and the deepest descent."""
    x = np.linspace(-8, 8, 160_001)
    y, slope = curve_of(experiment.variant("swish"))(x)
    falls = np.maximum.accumulate(y) - y
    return {"jump": float(np.abs(np.diff(slope)).max()), "descent": float(falls.max())}


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Accuracy on the test digits, each at its best rate, and a race of training calls."""
    data = digits(experiment)
    calls = experiment.once("calls", lambda: _calls(experiment))
    accuracy = {role: _accuracy(experiment, role, data) for role in ("swish", "rectifier")}
    return {
        "accuracy_gain": accuracy["swish"] - accuracy["rectifier"],
        "time_ratio": ratio_of_times(calls, "swish", "rectifier", experiment),
    }


def _accuracy(experiment: Experiment, role: str, data: Split) -> float:
    networks = Networks(experiment, role, SIZES, len(RATES))
    steps = experiment.at_scale(150, 1000)
    curves = train_on(
        networks, data, RATES, steps, experiment=experiment, method="adam", every=steps
    )
    with torch.no_grad():
        classes = networks(data.test.x)[:, curves.best].argmax(1)
    return float((classes == data.test.y).float().mean())


def _calls(experiment: Experiment) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for role in ("swish", "rectifier"):
        case = Case(
            kind="activation",
            shape=FeatureShape(1, 128, 256),
            options=experiment.variant(role).options,
            device=experiment.device,
            direction="training",
        )
        calls |= calls_of(experiment, role, case)
    return calls


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim; on what is as small as these digits a small advantage needs many seeds."""
    yield Claim(
        "swish",
        "Swish is smooth and not monotonic, somewhat better than ReLU in deep networks, and "
        "dearer.",
        "Ramachandran, Zoph and Le 2017, Searching for Activation Functions, §4 and §5",
        number=7,
        roles={"swish": "silu", "rectifier": "relu"},
        criteria=(
            Criterion("jump", "largest jump of its derivative within 1e-4", below=1e-3),
            Criterion("descent", "how far it falls as x grows", above=0.1),
            Criterion("accuracy_gain", "accuracy on digits, Swish − ReLU, 13 layers", above=0.0),
            Criterion(
                "time_ratio", "training call, Swish ÷ ReLU", above=LEAST_FLOOR, log=True, timed=True
            ),
        ),
        count=count,
        measure=measure,
        needs=("scikit-learn",),
    )
