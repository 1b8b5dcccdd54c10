"""Softmax gives a distribution that sums to 1, at extreme logits and in low precision too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.tensors import unit_roundoff

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
ROWS, WIDTH = 64, 100
#: From nearly uniform to one-hot; the largest logits are near what a half-precision number holds.
SCALES = (1e-2, 1.0, 1e2, 1e4)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The worst over forwards, dtypes and scales.

    Each of the WIDTH weights is rounded to the dtype, with a relative error of at most u each, so
    that their sum is known to u; a few roundings more are made within. Sums are taken in float64.
    """
    variant = experiment.variant("softmax")
    off, least = 0.0, 1.0
    x = experiment.normal(ROWS, WIDTH, dtype=torch.float64)
    for name in variant.forwards:
        act = experiment.module("softmax", WIDTH, forward=name)
        for dtype in DTYPES:
            for scale in SCALES:
                y = act((scale * x).to(dtype)).double()
                off = max(off, float((y.sum(-1) - 1).abs().max()) / unit_roundoff(dtype))
                least = min(least, float(y.min()))
    return {"off_by": off, "least_weight": least}


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "softmax_is_a_distribution",
        "Softmax gives a distribution that sums to 1, also at extreme logits and in low precision.",
        "Goodfellow, Bengio and Courville 2016, §6.2.2.3; Bridle 1990",
        number=8,
        roles={"softmax": "softmax"},
        criteria=(
            Criterion("off_by", "largest |sum − 1| in unit roundoffs of the dtype", below=8),
            Criterion("least_weight", "the smallest weight", above=-1e-12),
        ),
        measure=measure,
    )
