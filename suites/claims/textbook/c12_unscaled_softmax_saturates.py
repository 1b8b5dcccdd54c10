"""Without 1/√d_k softmax saturates as d_k grows, and its gradient vanishes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.attending import drawn, shape_of, weights_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment

SMALL, LARGE, KEYS = 4, 1024, 64


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Queries and keys have components of variance 1, so that q·k has variance d_k.

    The gradient of softmax is diag(p) − p pᵀ; its trace, 1 − Σ p², is 0 where one weight is 1.
    """
    found = {}
    for role in ("unscaled", "scaled"):
        weights = {
            dim: weights_of(experiment, role, drawn(experiment, role, shape_of(KEYS, dim)))
            for dim in (SMALL, LARGE)
        }
        slopes = {dim: float((1 - w.square().sum(-1)).mean()) for dim, w in weights.items()}
        found[f"gradient_{role}"] = slopes[LARGE] / slopes[SMALL]
        found[f"largest_{role}"] = float(weights[LARGE].amax(-1).mean())
    return found


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim: the gradient vanishes where less than a fifth of it is left."""
    told = "trace of softmax's Jacobian, d_k 1024 ÷ d_k 4"
    yield Claim(
        "unscaled_softmax_saturates",
        "Without 1/√d_k softmax saturates as d_k grows, and its gradient vanishes.",
        "Vaswani et al. 2017, §3.2.1",
        number=12,
        roles={"unscaled": "dot_product", "scaled": "scaled_dot_product"},
        criteria=(
            Criterion(
                "gradient_unscaled",
                f"{told}, unscaled",
                below=0.2,
                log=True,
            ),
            Criterion("gradient_scaled", f"{told}, scaled", above=0.8, below=1.25, log=True),
            Criterion("largest_unscaled", "mean largest of 64 weights, unscaled", above=0.9),
            Criterion("largest_scaled", "mean largest of 64 weights, scaled", below=0.5),
        ),
        measure=measure,
    )
