"""Heads attend to different things: several solve what one of the same total width can't."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.recall import Reader, best_error, relative_error
from bakeoff.suites.claims.training import SideBySide

FACTS, VALUE, WIDTH, HEADS, BATCH = 8, 4, 32, 4, 128
RATES = (0.003, 0.01, 0.03)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Each of FACTS has a name and a value; asked for two names, the answer is v_a − v_b.

    One head reads w_a v_a + w_b v_b with weights that are not negative and the same for all of the
    value, and the linear maps behind it do not know which of the two was asked for first: half of
    the answer's variance stays unexplained, at the least. The error is relative to that variance.
    """
    several, one = (_error(experiment, heads) for heads in (HEADS, 1))
    return {"error_of_several": several, "error_of_one": one}


def _error(experiment: Experiment, heads: int) -> float:
    reader = Reader(
        experiment,
        "attention",
        question=2 * FACTS,
        fact=FACTS + VALUE,
        answer=VALUE,
        head_dim=WIDTH // heads,
        value_dim=WIDTH // heads,
        heads=heads,
    )
    readers, generator = (
        SideBySide(reader.to(experiment.device), len(RATES)),
        experiment.generator(1),
    )

    def batch(size: int = BATCH) -> tuple[torch.Tensor, ...]:
        return tuple(t.to(experiment.device) for t in _drawn(size, generator))

    steps = experiment.at_scale(200, 2000)
    readers.descend(relative_error, batch, RATES, steps, experiment.alive)
    return best_error(readers, batch)


def _drawn(size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Questions (n, 2·FACTS), facts (n, FACTS, FACTS + VALUE) and answers (n, VALUE)."""
    asked = torch.rand(size, FACTS, generator=generator).argsort(1)[:, :2]
    values = torch.randn(size, FACTS, VALUE, generator=generator)
    names = torch.eye(FACTS).expand(size, -1, -1)
    found = values.gather(1, asked[..., None].expand(-1, -1, VALUE))
    question = F.one_hot(asked, FACTS).float().flatten(1)
    return question, torch.cat([names, values], 2), found[:, 0] - found[:, 1]


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "several_heads",
        "Heads attend to different things: several heads solve what one head of the same total "
        "width can't.",
        "Vaswani et al. 2017, §3.2.2",
        number=13,
        roles={"attention": "scaled_dot_product"},
        criteria=(
            Criterion("error_of_several", "share left unexplained, 4 heads of 8", below=0.1),
            Criterion("error_of_one", "the same, 1 head of 32", above=0.4),
        ),
        measure=measure,
    )
