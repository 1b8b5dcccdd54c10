"""Attention alone loses rank doubly exponentially with depth; skips stop it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.variants import Attention
from bakeoff.suites.claims.attending import shape_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.flow.measures import rank_residual
from bakeoff.suites.flow.stacks import AttentionStack

DEPTH, PLACES = 12, 64
#: Stacks that are averaged for each seed: single ones differ much.
STACKS = 8


def measure(experiment: Experiment) -> Mapping[str, float]:
    """How far rows are from all being equal, after each layer: r_1 … r_L, means over stacks.

    The order of convergence, ln(r_3 / r_2) / ln(r_2 / r_1), is 1 where the residual falls by one
    factor a layer, and 3 where it goes with its cube.
    """
    alone, with_skips = (_residuals(experiment, skip) for skip in (False, True))
    order = math.log(alone[2] / alone[1]) / math.log(alone[1] / alone[0])
    return {"order": order, "alone": alone[-1], "with_skips": with_skips[-1]}


def _residuals(experiment: Experiment, skip: bool) -> list[float]:
    variant, shape = experiment.variant("attention"), shape_of(PLACES, PLACES)
    assert isinstance(variant, Attention)
    several = []
    for i in range(STACKS):
        stack = AttentionStack(variant, DEPTH, shape, experiment.generator(2 * i), skip=skip)
        x = experiment.normal(1, PLACES, PLACES, stream=2 * i + 1, dtype=torch.float64)
        with torch.no_grad():
            outputs = stack.to(experiment.device).states(x).outputs
        several.append([rank_residual(y) for y in outputs])
    return [float(mean) for mean in np.mean(several, 0)]


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "rank_collapse",
        "Attention alone loses rank doubly exponentially with depth; skips stop it.",
        "Dong, Cordonnier and Loukas 2021, §2.1 and §3",
        number=24,
        roles={"attention": "scaled_dot_product"},
        criteria=(
            Criterion("order", "order of convergence to equal rows", above=1.5),
            Criterion("alone", "what is left of ‖X − 1x̄ᵀ‖ / ‖X‖ after 12 layers", below=1e-6),
            Criterion("with_skips", "what is left with skips", above=0.1),
        ),
        measure=measure,
    )
