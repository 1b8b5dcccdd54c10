"""Sparse attention cuts the cost, and global tokens bring back long reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.calls import Call
from bakeoff.suites.claims.attending import attention_case, drawn, influence, shape_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import calls_of, least_flops, ratio_of_times
from bakeoff.suites.claims.experiment import Experiment

#: For the cost: places to either side, global tokens, length.
WINDOW, TOKENS, LENGTH = 64, 1, 2048
#: For the reach, where a Jacobian is affordable.
NEAR, PLACES = 2, 32
#: An influence that is smaller, as a share of the largest, is rounding.
NOTHING = 1e-9


def count(experiment: Experiment) -> Mapping[str, float]:
    """FLOPs of the two products with keys and values, of each one's best forward."""
    flops = {}
    for role, options in _options(WINDOW).items():
        case = attention_case(
            experiment, role, shape_of(LENGTH, 64), options=options, dtype="float32"
        )
        flops[role] = least_flops(experiment, role, case)
    return {"flops": flops["sparse"] / flops["dense"]}


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The time in a race, and the pairs of places that two layers connect."""
    calls = experiment.once("calls", partial(_calls, experiment))
    return {
        "time": ratio_of_times(calls, "sparse", "dense", experiment),
        "reach": _reach(experiment, "sparse"),
        "reach_without": _reach(experiment, "local"),
    }


def _calls(experiment: Experiment) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for role in ("sparse", "dense"):
        shape, options = shape_of(LENGTH, 64), _options(WINDOW)[role]
        case = attention_case(experiment, role, shape, options=options, dtype="float32")
        calls |= calls_of(experiment, role, case)
    return calls


def _options(window: int) -> dict[str, dict[str, int]]:
    return {
        "sparse": {"window": window, "global_tokens": TOKENS},
        "local": {"window": window},
        "dense": {},
    }


def _reach(experiment: Experiment, role: str) -> float:
    """The share of pairs with any influence through two layers."""
    arguments = drawn(experiment, role, shape_of(PLACES, 4), options=_options(NEAR)[role])
    found = influence(experiment, role, arguments)
    one = (found > NOTHING * found.max()) | torch.eye(PLACES, dtype=torch.bool, device=found.device)
    return float(((one.double() @ one.double()) > 0).double().mean())


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "sparse_attention",
        "Sparse attention cuts the cost, and global tokens bring back long reach.",
        "Beltagy et al. 2020, §3.1; Zaheer et al. 2020, §2",
        number=17,
        roles={
            "sparse": "longformer",
            "local": "sliding_window",
            "dense": "scaled_dot_product",
        },
        criteria=(
            Criterion("flops", "FLOPs at N = 2048, sparse ÷ dense", below=0.5),
            Criterion("time", "time at N = 2048, sparse ÷ dense", below=1, log=True, timed=True),
            Criterion("reach", "pairs that 2 layers connect, global token, N = 32", above=0.99),
            Criterion("reach_without", "pairs that 2 layers connect, window ±2 alone", below=0.5),
        ),
        measure=measure,
        count=count,
    )
