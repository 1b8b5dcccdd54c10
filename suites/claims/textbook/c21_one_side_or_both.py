"""A bidirectional model sees both sides, and a causal one only the past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.attending import drawn, influence, shape_of
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment

PLACES, DIM = 24, 4
PATTERNS = {"bidirectional": "self", "causal": "causal_self"}


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The influence of later and of earlier places, by the Jacobian, ÷ the largest of all."""
    found = {}
    for role, pattern in PATTERNS.items():
        arguments = drawn(experiment, role, shape_of(PLACES, DIM), pattern=pattern)
        seen = influence(experiment, role, arguments)
        seen = seen / seen.max()
        later, earlier = (seen.triu(1), seen.tril(-1))
        pairs = PLACES * (PLACES - 1) / 2
        found[f"{role}_past"] = float((earlier > 0).sum()) / pairs
        found[f"{role}_future"] = float((later > 0).sum()) / pairs
    return found


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "one_side_or_both",
        "A bidirectional model sees both sides, and a causal one only the past.",
        "Devlin et al. 2019, §1; Vaswani et al. 2017, §3.2.3",
        number=21,
        roles={"bidirectional": "scaled_dot_product", "causal": "scaled_dot_product"},
        criteria=(
            Criterion(
                "bidirectional_past", "earlier places with any influence, bidirectional", above=0.99
            ),
            Criterion("bidirectional_future", "later places, bidirectional", above=0.99),
            Criterion("causal_past", "earlier places, causal", above=0.99),
            Criterion("causal_future", "later places, causal", below=1e-9),
        ),
        measure=measure,
    )
