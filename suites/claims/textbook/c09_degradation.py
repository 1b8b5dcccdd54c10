"""Deeper plain networks train worse; with y = F(x) + x they do not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import Split, digits, loss_of, train_on

WIDTH = 16
#: Blocks of two layers, with a layer before and one after: 6 layers, and 18 at the least.
SHALLOW, DEEP = 2, 8
RATES = (0.1, 0.3)
#: Nats of training loss: a difference that is smaller counts as none.
MARGIN = 0.05


class Blocks(nn.Module):
    """relu(conn(x, norm(W₂ relu(norm(W₁ x))))), block after block, one network a run.

    As in the source each layer is normalised over the batch (Ioffe and Szegedy 2015, without
    learned scales), so that a vanishing forward or backward signal can't be the reason.
    """

    def __init__(self, experiment: Experiment, role: str, blocks: int, runs: int) -> None:
        super().__init__()
        sizes = [(64, WIDTH), *[(WIDTH, WIDTH)] * (2 * blocks), (WIDTH, 10)]
        self.weights = nn.ParameterList()
        for layer, (inputs, outputs) in enumerate(sizes):
            weight = experiment.normal(inputs, outputs, stream=layer) * math.sqrt(2 / inputs)
            self.weights.append(nn.Parameter(weight.repeat(runs, 1, 1)))
        self.connections = [experiment.module(role, WIDTH) for _ in range(blocks)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, F) -> (n, runs, classes)."""
        first, *inner, last = self.weights
        y = _layer(x[:, None].expand(-1, len(first), -1), first).relu()
        for block, connection in enumerate(self.connections):
            one, two = inner[2 * block : 2 * block + 2]
            y = connection(y, lambda z, one=one, two=two: _layer(_layer(z, one).relu(), two))
            y = y.relu()
        return torch.einsum("nri,rio->nro", y, last)


def _layer(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    z = torch.einsum("nri,rio->nro", x, weight)
    return F.batch_norm(z.flatten(1), None, None, training=True).view_as(z)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Loss on the training digits after equal steps: deep − shallow, each at its best rate.

    The source trains until nothing changes any more; here the steps are so many that the shallow
    networks fit what they are trained on.
    """
    data, deep = digits(experiment), experiment.at_scale(DEEP, 2 * DEEP, 4 * DEEP)

    def difference(role: str) -> float:
        losses = [_training_loss(experiment, role, blocks, data) for blocks in (deep, SHALLOW)]
        return losses[0] - losses[1]

    return {f"{role}_deep_minus_shallow": difference(role) for role in experiment.roles}


def _training_loss(experiment: Experiment, role: str, blocks: int, data: Split) -> float:
    networks = Blocks(experiment, role, blocks, len(RATES))
    steps = experiment.at_scale(300, 1000)
    curves = train_on(networks, data, RATES, steps, experiment=experiment, every=steps)
    return float(loss_of(networks, data.train)[curves.best])


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "degradation",
        "Deeper plain networks train worse (training loss, not only test); with y = F(x) + x "
        "they do not.",
        "He et al. 2016, Deep Residual Learning, §1 and §4.2",
        number=9,
        roles={"plain": "plain", "residual": "residual"},
        criteria=(
            Criterion(
                "plain_deep_minus_shallow",
                "training loss, deep − shallow, plain",
                above=MARGIN,
                unit="nats",
            ),
            Criterion(
                "residual_deep_minus_shallow", "the same, residual", below=MARGIN, unit="nats"
            ),
        ),
        measure=measure,
        needs=("scikit-learn",),
    )
