"""Low-rank attention is linear in N; its error falls with rank, and is worse where it is sharp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.attending import attention_case, drawn, shape_of, weights_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.costs import exponent_of, least_flops
from bakeoff.suites.claims.experiment import Experiment

#: The option that is the rank.
RANKS = {"kernel": "features", "landmarks": "landmarks", "projected": "rank"}
#: Sizes; ranks that are compared; how large queries are where attention is flat, and sharp.
PLACES, HEADS, DIM, LOW, HIGH = 256, 4, 8, 16, 128
FLAT, SHARP = 0.5, 4.0
LENGTHS = (4096, 8192)


def count(experiment: Experiment) -> Mapping[str, float]:
    """The exponents of the FLOPs, of each one's best forward."""
    return {f"exponent_{role}": _exponent(experiment, role) for role in RANKS}


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Errors of the weights, for the two that stand in for it as they are drawn.

    Linformer's projections must be learned: drawn at random they approximate nothing.
    """
    found: dict[str, float] = {}
    for role in ("kernel", "landmarks"):
        low, high = (_error(experiment, role, rank, FLAT) for rank in (LOW, HIGH))
        sharp = _error(experiment, role, HIGH, SHARP)
        found |= {f"falls_{role}": high / low, f"sharp_{role}": sharp / high}
    return found


def _error(experiment: Experiment, role: str, rank: int, sharpness: float) -> float:
    """The mean total variation distance of the weights to those of exact attention, 0 to 1."""
    shape = shape_of(PLACES, DIM, heads=HEADS)
    options = {RANKS[role]: rank}
    weights, exact = (
        weights_of(experiment, of, drawn(experiment, of, shape, sharpness=sharpness, **more))
        for of, more in ((role, {"options": options}), ("exact", {}))
    )
    return float((weights - exact).abs().sum(-1).mean() / 2)


def _exponent(experiment: Experiment, role: str) -> float:
    options = {RANKS[role]: 32}
    shape = shape_of(LENGTHS[0], 32)
    case = attention_case(experiment, role, shape, options=options, dtype="float32")
    return exponent_of(partial(least_flops, experiment, role), case, LENGTHS)


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "low_rank_attention",
        "Low-rank attention is linear in N; its error falls with rank, and is larger where "
        "attention is sharp.",
        "Choromanski et al. 2021, §4.2; Xiong et al. 2021, §3.2; Wang et al. 2020, §4",
        number=18,
        roles={
            "kernel": "performer",
            "landmarks": "nystromformer",
            "projected": "linformer",
            "exact": "scaled_dot_product",
        },
        criteria=(
            *(
                Criterion(f"exponent_{role}", f"p of FLOPs ∝ N^p, {told}, N to 8192", below=1.1)
                for role, told in (
                    ("kernel", "random features"),
                    ("landmarks", "landmarks"),
                    ("projected", "projected keys"),
                )
            ),
            Criterion("falls_kernel", "error, 128 features ÷ 16", below=1, log=True),
            Criterion("falls_landmarks", "error, 128 landmarks ÷ 16", below=1, log=True),
            Criterion("sharp_kernel", "error with 128 features, sharp ÷ flat", above=1, log=True),
            Criterion(
                "sharp_landmarks", "error with 128 landmarks, sharp ÷ flat", above=1, log=True
            ),
        ),
        measure=measure,
        count=count,
    )
