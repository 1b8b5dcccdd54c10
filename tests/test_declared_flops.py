"""FLOPs that are declared at half or double what is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from test_wrong_variants import described, right

import bakeoff
from bakeoff import Attention, Case, Forward
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

CATALOG = bakeoff.load(entry_points=False, pyproject=False)


def pair_flops(case: Case) -> float:
    shape = case.attention_shape
    products = 2.0 * (shape.head_dim + shape.value_dim)
    return products * shape.batch * shape.heads * case.visible_pairs


def of_scores_alone(case: Case) -> float:
    shape = case.attention_shape
    return pair_flops(case) * shape.head_dim / (shape.head_dim + shape.value_dim)


def found(flops: Callable[[Case], float], pattern: str) -> Record:
    forwards = {"reference": Forward(right, flops=flops)}
    variant = Attention("planted", forwards=forwards, metadata=described())
    catalog = CATALOG.with_variants(variant)
    suite = suites_of(catalog, ["scaling"])["scaling"]
    chosen = {"variants": ("planted",), "patterns": (pattern,), "seq_lens": (64,)}
    jobs = suite.plan(catalog, selection_for("check", "scaling", chosen))
    records = [r for j in jobs if j.untimed for r in suite.measure(replace(j, catalog=catalog))]
    return next(r for r in records if r.metric == "flops_declared")


@pytest.mark.parametrize("pattern", ["self", "causal_self"])
@pytest.mark.parametrize(
    ("flops", "status"),
    [
        (pair_flops, Status.OK),
        (lambda case: pair_flops(case) / 2, Status.WRONG),
        (of_scores_alone, Status.WRONG),
        (lambda case: pair_flops(case) * 2 / 3, Status.OK),
    ],
    ids=["all", "half", "scores alone", "two thirds"],
)
def test_declared_flops(flops: Callable[[Case], float], status: Status, pattern: str) -> None:
    assert found(flops, pattern).status is status


def test_twice_the_flops() -> None:
    assert found(lambda case: 2 * pair_flops(case), "self").status is Status.WRONG
