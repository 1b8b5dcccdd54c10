"""Hierarchical attention costs less than dense and keeps long reach, coarsely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.calls import Call
from bakeoff.suites.claims.attending import attention_case, drawn, shape_of, weights_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import calls_of, least_flops, ratio_of_times
from bakeoff.suites.claims.experiment import Experiment

LENGTH = 2048
#: For the weights: places, and the block within which pairs are exact; from three on it is coarse.
PLACES, BLOCK = 64, 4
FAR = 3 * BLOCK


def count(experiment: Experiment) -> Mapping[str, float]:
    """FLOPs of each one's best forward."""
    hierarchical, dense = (
        least_flops(
            experiment,
            role,
            attention_case(experiment, role, shape_of(LENGTH, 64), dtype="float32"),
        )
        for role in ("hierarchical", "dense")
    )
    return {"flops": hierarchical / dense}


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The time in a race, and the weights: which are zero, and which of neighbours differ."""
    calls = experiment.once("calls", partial(_calls, experiment))
    options = {"block_size": BLOCK}
    arguments = drawn(experiment, "hierarchical", shape_of(PLACES, 8), options=options)
    weights = weights_of(experiment, "hierarchical", arguments)[0, 0]  # (N, N)
    first, second = weights[:, ::2], weights[:, 1::2]
    apart = (first - second).abs() / (first + second)  # of two neighbouring keys, (N, N/2)
    place = torch.arange(PLACES, device=weights.device)
    away = (place[:, None] - place[::2]).abs()
    return {
        "time": ratio_of_times(calls, "hierarchical", "dense", experiment),
        "reach": float((weights > 0).double().mean()),
        "near": float(apart[away < BLOCK].mean()),
        "far": float(apart[away > FAR].max()),
    }


def _calls(experiment: Experiment) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for role in ("hierarchical", "dense"):
        case = attention_case(experiment, role, shape_of(LENGTH, 64), dtype="float32")
        calls |= calls_of(experiment, role, case)
    return calls


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "hierarchical_attention",
        "Hierarchical attention costs less than dense and keeps long reach, coarsely.",
        "Zhu and Soricut 2021, §6",
        number=22,
        roles={"hierarchical": "hierarchical", "dense": "scaled_dot_product"},
        criteria=(
            Criterion("flops", "FLOPs at N = 2048, hierarchical ÷ dense", below=0.5),
            Criterion(
                "time", "time at N = 2048, hierarchical ÷ dense", below=1, log=True, timed=True
            ),
            Criterion("reach", "pairs with a weight", above=0.99),
            Criterion("near", "|difference| ÷ sum of the weights of two near keys", above=0.01),
            Criterion("far", "largest such difference of two far keys of a group", below=1e-6),
        ),
        measure=measure,
        count=count,
    )
