"""Deformable attention costs O(N·K), whatever the reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case
from bakeoff.suites.claims.attending import attention_case, drawn, influence, shape_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import exponent_of, least_flops, least_moved
from bakeoff.suites.claims.experiment import Experiment

LENGTHS, POINTS = (4096, 8192), (4, 16)
#: For the reach: places, points, and how many times larger the offsets become.
PLACES, FEW, FARTHER = 48, 2, 10.0
#: A place between two cells is interpolated from both.
CELLS = 2


def count(experiment: Experiment) -> Mapping[str, float]:
    """FLOPs of the products, and bytes moved: the samples themselves are no matrix products."""
    case = _case(experiment, POINTS[0])
    flops, moved = (partial(cost, experiment, "sampled") for cost in (least_flops, least_moved))
    few, many = (moved(_case(experiment, points)) for points in POINTS)
    return {
        "exponent_flops": exponent_of(flops, case, LENGTHS),
        "exponent_moved": exponent_of(moved, case, LENGTHS),
        "per_point": many / few / (POINTS[1] / POINTS[0]),
    }


def measure(experiment: Experiment) -> Mapping[str, float]:
    """How far away a query looks, and how many places it reads, with small and large offsets."""
    near, far = (_read(experiment, stretch) for stretch in (1.0, FARTHER))
    place = torch.arange(PLACES, device=near.device)
    away = (place[:, None] - place).abs()
    reach = [float((away * read).amax(-1).double().mean()) for read in (near, far)]
    most = max(int(read.sum(-1).max()) for read in (near, far))
    return {"farther": reach[1] / reach[0], "places": most / (CELLS * FEW)}


def _case(experiment: Experiment, points: int) -> Case:
    shape = shape_of(LENGTHS[0], 32)
    options = {"points": points}
    return attention_case(experiment, "sampled", shape, options=options, dtype="float32")


def _read(experiment: Experiment, stretch: float) -> torch.Tensor:
    """(N, N): whether the value of place j reaches output i, with offsets so many times larger."""
    arguments = drawn(experiment, "sampled", shape_of(PLACES, 8), options={"points": FEW})
    offsets = {n: stretch * t for n, t in arguments.learned.items() if n.endswith("_offset")}
    return influence(experiment, "sampled", arguments.replacing(offsets), of=("v",)) > 0


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "deformable_attention",
        "Deformable attention costs O(N·K), whatever the reach.",
        "Zhu et al. 2021, §4.1",
        number=20,
        roles={"sampled": "deformable"},
        criteria=(
            Criterion("exponent_flops", "p of FLOPs ∝ N^p, N to 8192", below=1.1),
            Criterion("exponent_moved", "p of bytes moved ∝ N^p", below=1.1),
            Criterion("per_point", "bytes moved with K = 16 ÷ 4 times those with 4", below=1.1),
            Criterion("farther", "mean reach with offsets × 10 ÷ as drawn", above=2, log=True),
            Criterion("places", "most places that a query reads ÷ 2K", below=1.001),
        ),
        measure=measure,
        count=count,
    )
