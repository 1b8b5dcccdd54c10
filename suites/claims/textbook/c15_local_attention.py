"""Local attention costs O(N), and loses what is further away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.attending import attention_case, drawn, influence, shape_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import exponent_of, least_flops
from bakeoff.suites.claims.experiment import Experiment

#: A window of so many places to either side; lengths between which costs are compared.
WINDOW, LENGTHS = 64, (4096, 8192)
#: A smaller one, whose Jacobian is looked at.
NEAR, PLACES = 4, 32


def count(experiment: Experiment) -> Mapping[str, float]:
    """The exponents of the FLOPs, of each one's best forward."""
    shape, found = shape_of(LENGTHS[0], 32), {}
    for role in ("local", "dense"):
        options = {"window": WINDOW} if role == "local" else None
        case = attention_case(experiment, role, shape, options=options, dtype="float32")
        cost = partial(least_flops, experiment, role)
        found[f"exponent_{role}"] = exponent_of(cost, case, LENGTHS)
    return found


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The influence of places within and beyond the window, by the Jacobian."""
    arguments = drawn(experiment, "local", shape_of(PLACES, 4), options={"window": NEAR})
    seen = influence(experiment, "local", arguments)
    place = torch.arange(PLACES, device=seen.device)
    within = (place[:, None] - place).abs() <= NEAR
    return {"within": float(seen[within].min()), "beyond": float(seen[~within].max())}


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "local_attention",
        "Local attention costs O(N), and loses what is further away.",
        "Beltagy et al. 2020, §3.1",
        number=15,
        roles={"local": "sliding_window", "dense": "scaled_dot_product"},
        criteria=(
            Criterion("exponent_local", "p of FLOPs ∝ N^p, window ±64, N to 8192", below=1.1),
            Criterion("exponent_dense", "p of FLOPs ∝ N^p, dense", above=1.9),
            Criterion("within", "least |∂o_i/∂place j| within the window", above=1e-9, log=True),
            Criterion("beyond", "largest |∂o_i/∂place j| beyond it", below=1e-12),
        ),
        measure=measure,
        count=count,
    )
