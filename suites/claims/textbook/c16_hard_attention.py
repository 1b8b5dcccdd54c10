"""Hard attention can't be trained by plain backpropagation; its sampled gradient is noisier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.attending import attention_case, drawn, output, shape_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.tensors import Arguments, arguments_for

SHAPE = shape_of(16, 8)
#: Half the distance of a central difference; draws of the noise.
STEP, DRAWS = 1e-6, 64


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Of the loss Σ c·o, with c drawn, as a function of the queries.

    What plain backpropagation gives a choice is its derivative, by differences along a drawn
    direction with the noise held fixed. What is used in its stead is sampled: its noise is the
    deviation over draws ÷ the norm of the mean gradient. Soft attention draws nothing.
    """
    hard, soft = (
        [_drawn_again(experiment, role, draw) for draw in range(DRAWS)] for role in ("hard", "soft")
    )
    slopes = [
        _slope(experiment, role, found[0]) for role, found in (("hard", hard), ("soft", soft))
    ]
    noises = [_noise(experiment, role, found) for role, found in (("hard", hard), ("soft", soft))]
    return {"derivative": slopes[0] / slopes[1], "noisier": noises[0] - noises[1]}


def _drawn_again(experiment: Experiment, role: str, draw: int) -> Arguments:
    """The same queries, keys and values; another draw of what is noise."""
    case = attention_case(experiment, role, SHAPE, direction="training")
    other = arguments_for(experiment.variant(role), replace(case, seed=1000 * case.seed + draw))
    return replace(other, data=drawn(experiment, role, SHAPE).data)


def _loss(experiment: Experiment, out: torch.Tensor) -> torch.Tensor:
    return (experiment.normal(*out.shape, stream=1, dtype=out.dtype) * out).sum()


def _slope(experiment: Experiment, role: str, arguments: Arguments) -> float:
    """The size of the loss's derivative along a drawn direction of the queries."""
    q = arguments.data["q"]
    direction = experiment.normal(*q.shape, stream=2, dtype=q.dtype)
    ends = [
        _loss(
            experiment, output(experiment, role, arguments.replacing({"q": q + step * direction}))
        )
        for step in (STEP, -STEP)
    ]
    return abs(float(ends[0] - ends[1])) / (2 * STEP)


def _noise(experiment: Experiment, role: str, several: Iterable[Arguments]) -> float:
    """The deviation of the gradient over draws, as a share of its mean."""
    found: list[torch.Tensor] = []
    for arguments in several:
        leaves = arguments.requiring_grad()
        out = leaves.call(experiment.variant(role).forward("reference").fn)
        found += torch.autograd.grad(_loss(experiment, out), leaves.data["q"])
    grads = torch.stack(found)
    return float((grads - grads.mean(0)).square().mean(0).sum().sqrt() / grads.mean(0).norm())


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "hard_attention",
        "Hard attention can't be trained by plain backpropagation; its sampled gradient is "
        "noisier than soft attention's.",
        "Xu et al. 2015, §4.1",
        number=16,
        roles={"hard": "hard", "soft": "scaled_dot_product"},
        criteria=(
            Criterion("derivative", "derivative by q, hard ÷ soft", below=1e-6),
            Criterion("noisier", "deviation ÷ mean of the gradient, hard − soft", above=0.1),
        ),
        measure=measure,
    )
