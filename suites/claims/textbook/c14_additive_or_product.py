"""Additive and dot-product attention are alike at small d_k; unscaled, the product falls behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.recall import Reader, best_error, relative_error
from bakeoff.suites.claims.training import SideBySide

FACTS, NAME, VALUE, BATCH = 8, 4, 4, 32
#: Additive attention has as many hidden units as d_k: with four of them it can't tell names apart.
SMALL, LARGE = 16, 128
RATES = (0.003, 0.01, 0.03)
#: Of the answer's variance.
MARGIN = 0.1


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Asked for a name, the attention answers with its value: what it leaves unexplained.

    Names have components of variance 1, and so have queries and keys at the start, as the source
    assumes in its footnote 4. They are of one length, since a product prefers what is long, and
    have fewer features than the smaller d_k, which would else lose a part of them. Steps are as
    many as additive attention needs at the smaller d_k; each has the best of three rates, with
    Adam, as Britz et al. train.
    """
    error = {
        (role, dim): _error(experiment, role, dim)
        for role in ("additive", "product")
        for dim in (SMALL, LARGE)
    }
    return {
        "product_minus_additive_small": error["product", SMALL] - error["additive", SMALL],
        "product_minus_additive_large": error["product", LARGE] - error["additive", LARGE],
    }


def _error(experiment: Experiment, role: str, dim: int) -> float:
    reader = Reader(
        experiment,
        role,
        question=NAME,
        fact=NAME + VALUE,
        answer=VALUE,
        head_dim=dim,
        value_dim=16,
    )
    readers, generator = (
        SideBySide(reader.to(experiment.device), len(RATES)),
        experiment.generator(1),
    )

    def batch(size: int = BATCH) -> tuple[torch.Tensor, ...]:
        names = torch.randn(size, FACTS, NAME, generator=generator)
        names = F.normalize(names, dim=-1) * math.sqrt(NAME)
        values = torch.randn(size, FACTS, VALUE, generator=generator)
        drawn = names[:, 0], torch.cat([names, values], 2), values[:, 0]
        return tuple(t.to(experiment.device) for t in drawn)

    steps = experiment.at_scale(400, 2000)
    readers.descend(relative_error, batch, RATES, steps, experiment.alive)
    return best_error(readers, batch)


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "additive_or_product",
        "Additive and dot-product attention are alike at small d_k; unscaled dot-product falls "
        "behind at large d_k.",
        "Vaswani et al. 2017, §3.2.1; Britz et al. 2017, §4.5",
        number=14,
        roles={"additive": "additive", "product": "dot_product"},
        criteria=(
            Criterion(
                "product_minus_additive_small",
                "share left unexplained, product − additive, d_k 16",
                above=-MARGIN,
                below=MARGIN,
            ),
            Criterion("product_minus_additive_large", "the same, d_k 128", above=MARGIN),
        ),
        measure=measure,
    )
