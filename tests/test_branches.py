"""What a connection does to its branch is declared, and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_wrong_variants import described

import bakeoff
from bakeoff import Connection
from bakeoff.registry.validation import faults_of
from bakeoff.suites.branches import branch_called
from bakeoff.suites.records import Status
from bakeoff.suites.verdicts import Subject, Verdict

Tensor = torch.Tensor
Branch = Callable[[Tensor], Tensor]
CATALOG = bakeoff.load(entry_points=False, pyproject=False)
CONNECTIONS = [v for v in CATALOG.values() if v.kind == "connection"]


def connection(fn: Callable[..., Tensor], noise: Any = None, **properties: Any) -> Connection:
    about = described(tags=("skip",), properties=properties)
    return Connection("planted", forwards={"reference": fn}, noise=noise, metadata=about)


def draws(features: int, generator: torch.Generator | None) -> Mapping[str, Tensor]:
    return {"draw": torch.rand(1, generator=generator)}


def found(variant: Connection, name: str = "reference", dtype: str = "float32") -> Verdict:
    assert faults_of(variant) == []
    return branch_called(Subject(variant, name, dtype))


def residual(x: Tensor, branch: Branch) -> Tensor:
    return x + branch(x)


def twice(x: Tensor, branch: Branch) -> Tensor:
    return x + (branch(x) + branch(x)) / 2


def never(x: Tensor, branch: Branch) -> Tensor:
    return x.clone()


def twice_in_training(x: Tensor, branch: Branch) -> Tensor:
    return x + ((branch(x) + branch(x)) / 2 if torch.is_grad_enabled() else branch(x))


def detached(x: Tensor, branch: Branch) -> Tensor:
    return x + branch(x.detach())


def output_detached(x: Tensor, branch: Branch) -> Tensor:
    return x + branch(x).detach()


def in_place(x: Tensor, branch: Branch) -> Tensor:
    return branch(x).add_(x)


def one_row_at_a_time(x: Tensor, branch: Branch) -> Tensor:
    return x + torch.stack([branch(row) for row in x])


def widened(x: Tensor, branch: Branch) -> Tensor:
    return x + branch(x[..., None, :])[..., 0, :]


def skips(x: Tensor, branch: Branch, *, draw: Tensor | None) -> Tensor:
    return x + branch(x) if draw is None or draw < 0.5 else x.clone()


def skips_always(x: Tensor, branch: Branch, *, draw: Tensor | None) -> Tensor:
    return x + branch(x) if draw is None else x.clone()


ONCE = "evaluating: calls of the branch: got 2, expected 1 (a branch with dropout draws anew"


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (twice, ONCE),
        (never, "evaluating: calls of the branch: got 0, expected 1"),
        (twice_in_training, "training: calls of the branch: got 2, expected 1"),
        (detached, "training: the input of the branch is detached from x"),
        (output_detached, "training: no gradient reaches the output of the branch"),
        (in_place, "evaluating: the output of the branch is changed in place"),
        (one_row_at_a_time, "evaluating: the branch got (37, 24) torch.float32 on cpu, expected"),
        (widened, "evaluating: the branch got (2, 37, 1, 24)"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_fault_is_found(fn: Callable[..., Tensor], reason: str) -> None:
    verdict = found(connection(fn))
    assert verdict.status == Status.WRONG
    assert verdict.reason.startswith(reason)


def test_right_ones_pass() -> None:
    assert found(connection(residual)) == Verdict(Status.OK, 1.0)
    # What is meant is declared: two calls, none, a gradient that is not the derivative.
    assert found(connection(twice, branch_calls=2)) == Verdict(Status.OK, 2.0)
    assert found(connection(never, branch_calls=0)) == Verdict(Status.OK, 0.0)
    assert found(connection(detached, differentiable=False)).status == Status.OK


def test_a_declared_count_that_is_not_measured_is_wrong() -> None:
    verdict = found(connection(residual, branch_calls=2))
    assert verdict.status == Status.WRONG
    assert verdict.reason == "evaluating: calls of the branch: got 1, expected 2, as declared"
    assert 'Metadata(properties={"branch_calls": 2})' in found(connection(twice)).reason


def test_what_is_stochastic_may_skip_it_in_training_alone() -> None:
    assert found(connection(skips, draws, stochastic=True)).status == Status.OK
    bad = found(connection(skips_always, draws, stochastic=True))
    assert bad.reason.startswith("training: calls of the branch: got 0, expected 1")
    evaluating = found(connection(never, stochastic=True))
    assert evaluating.reason.startswith("evaluating: calls of the branch: got 0")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "forward"), [(v.name, forward) for v in CONNECTIONS for forward in v.forwards]
)
def test_every_connection(name: str, forward: str, dtype: str) -> None:
    variant = CATALOG[name]
    assert isinstance(variant, Connection)
    assert found(variant, forward, dtype) == Verdict(Status.OK, 1.0)


@pytest.mark.parametrize("count", [True, -1, 1.0, "1"])
def test_a_count_is_a_whole_number(count: Any) -> None:
    variant = connection(residual)
    broken = replace(
        variant, metadata=replace(variant.metadata, properties={"branch_calls": count})
    )
    (fault,) = faults_of(broken)
    assert "metadata.properties['branch_calls']" in str(fault)
