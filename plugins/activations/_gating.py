"""What the gated linear units share.

All of them read x as [a, b], two halves of the features: the first is the value and the second the
gate, as in equation 1 of Dauphin et al. (2016) and in torch's own GLU.
"""

from __future__ import annotations

from bakeoff import Case, FeatureShape

__all__ = ["needs_halves"]


def needs_halves(case: Case) -> str | None:
    """None where the features fall into two halves, else the reason."""
    assert isinstance(case.shape, FeatureShape)
    features = case.shape.features
    return f"{features} features do not fall into two halves" if features % 2 else None
