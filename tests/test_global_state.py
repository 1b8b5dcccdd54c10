"""What a call leaves behind for the whole process."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_wrong_variants import described

from bakeoff import Activation
from bakeoff.registry.global_state import GlobalState, GlobalStateError, guarded
from bakeoff.suites.probes import global_state_kept
from bakeoff.suites.records import Status
from bakeoff.suites.verdicts import Subject, Verdict

DRAWS: dict[str, Callable[[], Any]] = {
    "torch's": lambda: torch.rand(1),
    "Python's": random.random,
    "numpy's": lambda: np.random.rand(),
}


def kept(fn: Callable[..., Any]) -> Verdict:
    variant = Activation("planted", forwards={"reference": fn}, metadata=described())
    return global_state_kept(Subject(variant, "reference"))


@pytest.mark.parametrize("whose", DRAWS)
def test_a_draw_from_a_global_generator(whose: str) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        DRAWS[whose]()
        return F.silu(x)

    verdict = kept(forward)
    assert verdict.status is Status.WRONG
    assert f"the state of {whose} global random generator" in verdict.reason


@pytest.mark.parametrize("whose", DRAWS)
def test_the_state_is_set_back(whose: str) -> None:
    expected = DRAWS[whose]
    before = GlobalState.now()
    first = float(expected())
    before.restore()
    with pytest.raises(GlobalStateError, match=whose), guarded("planted"):
        expected()
    assert float(expected()) == first


class DrawsInItsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        torch.rand(1)
        return gradient


def test_a_draw_in_the_backward_or_when_training_alone() -> None:
    verdict = kept(lambda x: DrawsInItsBackward.apply(F.silu(x)))
    assert "reference with its backward changes" in verdict.reason
    verdict = kept(lambda x: F.dropout(x, 0.0, training=torch.is_grad_enabled()) + _drawn())
    assert verdict.status is Status.WRONG


def _drawn() -> float:
    return 0.0 * float(torch.rand(1)) if torch.is_grad_enabled() else 0.0


def test_nothing_is_left_behind() -> None:
    assert kept(F.silu).status is Status.OK
    assert kept(lambda x: x + torch.rand(1, generator=torch.Generator())).status is Status.OK
