"""What an oracle judges, and what it leaves out."""

from __future__ import annotations

import pytest
import torch

from bakeoff import Activation, Case, FeatureShape, Metadata
from bakeoff.suites.budget import Oracle


@pytest.mark.parametrize(("size", "right"), [(3e4, False), (4e4, True), (7e4, True)])
def test_what_may_overflow(size: float, right: bool) -> None:
    """Float16 ends at 65504; from half of it on an error may carry beyond."""
    metadata = Metadata(
        title="Planted",
        summary="For tests.",
        formula="y",
        strengths="short",
        weaknesses="useless",
        use_when="Never.",
        tags="hidden_layer",
    )
    fn = {"reference": lambda x: x * 0 + size}
    variant = Activation("planted", forwards=fn, metadata=metadata)
    case = Case(kind="activation", shape=FeatureShape(1, 3, 4), dtype="float16")
    oracle = Oracle(variant, case)
    assert oracle.judge(lambda x: torch.full_like(x, torch.inf))[0].right == right
