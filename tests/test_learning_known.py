"""Multi-query associative recall in the small: who solves it, and in which order."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

import bakeoff
from bakeoff.suites.learning.controls import MEAN, control_parts
from bakeoff.suites.learning.models import Sizes, build
from bakeoff.suites.learning.parts import Part, Parts, usual_parts
from bakeoff.suites.learning.tasks import all_tasks
from bakeoff.suites.learning.training import Training, evaluated

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
MQAR = all_tasks()["mqar"]
RATE = 3e-3


def parts_of(name: str) -> Parts:
    usual = usual_parts(CATALOG)
    if name == "mean":
        return control_parts(MEAN, "attention", usual, CATALOG)
    part = {
        "softmax": Part(CATALOG["scaled_dot_product"], "sdpa"),
        "linear": Part(CATALOG["linear_attention"], "linear"),
        "window": Part(CATALOG["sliding_window"], "chunked", {"window": 4}),
    }
    return usual.having(part[name])


@cache
def trained(
    name: str, steps: int, width: int = 64, convolution: int = 3, seed: int = 0
) -> Training:
    task = replace(MQAR, steps=steps, convolution=convolution)
    run = Training(
        build(task, parts_of(name), Sizes(width=width, heads=1), seed), task, RATE, steps, seed
    )
    run.advance(steps)
    return run


def accuracy(run: Training) -> float:
    return evaluated(run.model, run.task, run.task.make("test", 1024, run.seed))[1]


def test_softmax_solves_it_and_the_mean_knows_only_which_values_there_are() -> None:
    assert accuracy(trained("softmax", 350)) > 0.95
    assert accuracy(trained("mean", 400)) < 0.3


@pytest.mark.slow
def test_the_floors() -> None:
    assert accuracy(trained("mean", 1000)) == pytest.approx(1 / 4, abs=0.03)
    assert accuracy(trained("window", 600)) < 0.2


@pytest.mark.slow
def test_the_convolution_is_what_makes_it_quick() -> None:
    """Without it the value that follows a key is not seen; what softmax can do about that, by
    weighing how many keys came before, takes it longer.
    """
    without, with_it = (accuracy(trained("softmax", 250, convolution=width)) for width in (0, 3))
    assert without < 0.4
    assert with_it > 0.5
    without, with_it = (accuracy(trained("softmax", 350, convolution=width)) for width in (0, 3))
    assert without < 0.8
    assert with_it > 0.95


@pytest.mark.slow
def test_the_order() -> None:
    """At one width softmax comes before linear attention, with every seed, and wide before narrow.

    Whether narrow softmax or wide linear attention comes first is not asked: here they are as far
    apart as two seeds are.
    """

    def steps(name: str, width: int, seed: int) -> int:
        reached = trained(name, 1500, width, seed=seed).reached
        assert reached is not None, (name, width, seed)
        return reached

    for seed in range(3):
        first = steps("softmax", 64, seed)
        assert first < steps("linear", 64, seed), seed
        assert first < steps("softmax", 32, seed), seed
