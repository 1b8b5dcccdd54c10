"""A superfluous residual block can become the identity; a plain one cannot easily."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import descend

BLOCKS, WIDTH, HIDDEN, BATCH = 3, 16, 16, 64
RATES = (0.001, 0.003, 0.01, 0.03)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """How far from the identity blocks are that had BLOCKS too many, after equal steps.

    Each block is the source's (figure 2): relu(conn(x, W₂ relu(W₁ x))), as wide inside as outside,
    from He's initialisation, on inputs that a block before it has rectified. The blocks are all
    that there is and the target is their input, so that all of them are superfluous; the distance
    is E|y − x|² / E|x|² on fresh inputs, at the best rate of each. The width matters: a single
    plain block with four times as many hidden units gets there as fast as a residual one.
    """
    plain, residual = (_distance(experiment, role) for role in ("plain", "residual"))
    return {"residual_distance": residual, "plain_distance": plain, "ratio": plain / residual}


def _distance(experiment: Experiment, role: str) -> float:
    runs = len(RATES)
    connection = experiment.module(role, WIDTH)
    generator = experiment.generator(3)

    def drawn(inputs: int, outputs: int, stream: int) -> list[torch.Tensor]:
        weights = experiment.normal(BLOCKS, inputs, outputs, stream=stream) * math.sqrt(2 / inputs)
        return [w.repeat(runs, 1, 1).requires_grad_() for w in weights]

    first, second = drawn(WIDTH, HIDDEN, 1), drawn(HIDDEN, WIDTH, 2)

    def distances(step: int) -> torch.Tensor:
        x = torch.randn(BATCH, WIDTH, generator=generator).relu().to(experiment.device)
        y = x.expand(runs, BATCH, WIDTH)
        for one, two in zip(first, second, strict=True):
            y = connection(y, lambda z, one=one, two=two: torch.relu(z @ one) @ two).relu()
        return (y - x).square().sum((1, 2)) / x.square().sum()

    steps = experiment.at_scale(1000, 3000)
    descend([*first, *second], distances, RATES, steps, "adam")
    with torch.no_grad():
        validation, test = (torch.stack([distances(0) for _ in range(10)]).mean(0) for _ in "vt")
    return float(test[validation.nan_to_num(math.inf).argmin()])


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "identity_block",
        "A superfluous residual block can become the identity; a plain one cannot easily.",
        "He et al. 2016, Deep Residual Learning, §3.1",
        number=11,
        roles={"plain": "plain", "residual": "residual"},
        criteria=(
            Criterion("residual_distance", "residual blocks' distance from identity", below=0.01),
            Criterion("plain_distance", "plain blocks' distance from identity", above=0.01),
            Criterion("ratio", "plain ÷ residual", above=10.0, log=True),
        ),
        measure=measure,
    )
