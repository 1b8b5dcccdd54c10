"""Variants that allow only some patterns, and options that act through what is declared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import bakeoff
from bakeoff import Attention, Metadata, Shape, UnsupportedError, allowed_keys, masked_softmax
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
CAUSAL = ("causal_self", "causal_cross", "decode")

Tensor = torch.Tensor


def right(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


def leaks(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, causal=False, scale=scale)


def planted(fn: Any, **more: Any) -> Attention:
    metadata = Metadata(
        title="Planted",
        summary="For tests.",
        formula="o",
        strengths="short",
        weaknesses="useless",
        use_when="Never.",
        tags="soft",
        properties={"row_stochastic": True, "patterns": CAUSAL},
        unused=("causal",),
    )
    return Attention("planted", forwards={"reference": fn}, metadata=metadata, **more)


def records_of(variant: Attention, suite: str) -> list[Record]:
    catalog = CATALOG.with_variants(variant)
    selection = selection_for("quick", suite, {"variants": (variant.name,)})
    jobs = suites_of(catalog, [suite])[suite].plan(catalog, selection)
    measure = suites_of(catalog, [suite])[suite].measure
    return [record for job in jobs for record in measure(replace(job, catalog=catalog))]


@pytest.mark.parametrize(("fn", "wrong"), [(right, set()), (leaks, {"no_future_leak"})])
def test_probes_run_on_a_pattern_that_is_allowed(fn: Any, wrong: set[str]) -> None:
    records = records_of(planted(fn), "accuracy")
    assert {r.metric for r in records if r.status == Status.WRONG} == wrong
    probes = ("mask_obeyed", "no_key", "extreme", "deterministic", "property_row_stochastic")
    judged = {r.metric for r in records if r.status == Status.OK}
    assert judged >= set(probes)
    excluded = [r.reason for r in records if r.metric == "identity" or r.status == "unsupported"]
    assert excluded
    assert any("does not allow the pattern" in reason for reason in excluded)


@pytest.mark.parametrize("suite", ["gradient", "memory"])
def test_other_suites_too(suite: str) -> None:
    records = records_of(planted(right), suite)
    metric = {"gradient": "gradcheck", "memory": "saved_bytes"}[suite]
    found = {r.cell.case.pattern for r in records if r.metric == metric and r.status == Status.OK}
    assert found == {"causal_self"}


def test_a_module_refuses_a_pattern() -> None:
    module = bakeoff.module(planted(right), Shape(1, 1, 1, 3, 3, 2, 2))
    q = torch.randn(1, 1, 3, 2)
    assert module(q, q, q, causal=True).shape == q.shape
    with pytest.raises(UnsupportedError, match="does not allow the pattern self"):
        module(q, q, q)


@pytest.mark.parametrize("acts", [True, False])
def test_an_option_that_sizes_a_parameter_matters(acts: bool) -> None:
    def fn(q, k, v, *, slots, bias, mask=None, causal=False, scale=None):
        more = bias.logsumexp(0) if acts else bias[0]
        return right(q * more, k, v, mask=mask, causal=causal, scale=scale)

    def parameters(shape: Shape, generator: Any, slots: int) -> dict[str, Tensor]:
        return {"bias": nn.Parameter(torch.ones(slots))}

    variant = planted(fn, options={"slots": 4}, parameters=parameters)
    found = next(r for r in records_of(variant, "accuracy") if r.metric == "arguments_matter")
    assert (found.status == Status.OK) == acts
    assert acts or found.reason.startswith("no effect: slots")


@pytest.mark.parametrize("acts", [True, False])
def test_an_argument_may_matter_under_another_value_of_an_option(acts: bool) -> None:
    def fn(q, k, v, *, window, sinks, mask=None, causal=False, scale=None):
        i = torch.arange(q.shape[2])[:, None]
        j = torch.arange(k.shape[2])
        near = ((i - j).abs() <= window) | (acts & (j < sinks))
        near = near if mask is None else near & mask
        return right(q, k, v, mask=near, causal=causal, scale=scale)

    variant = planted(fn, options={"window": 128, "sinks": 4})
    found = next(r for r in records_of(variant, "accuracy") if r.metric == "arguments_matter")
    assert (found.status == Status.OK) == acts
    assert acts or found.reason.startswith("no effect: sinks")


@pytest.mark.parametrize("obeys", [True, False])
def test_an_option_beside_a_parameter_that_begins_at_zero(obeys: bool) -> None:
    """Parameters are moved off their start, by as much under each value of an option."""

    def fn(q, k, v, *, power, gain, mask=None, causal=False, scale=None):
        out = right(q, k, v, mask=mask, causal=causal, scale=scale)
        return out + gain * (v.mean() * power if obeys else v.mean())

    def parameters(shape: Shape, generator: Any, power: float) -> dict[str, Tensor]:
        return {"gain": nn.Parameter(torch.zeros(1))}

    variant = planted(fn, options={"power": 2.0}, parameters=parameters)
    found = next(r for r in records_of(variant, "accuracy") if r.metric == "arguments_matter")
    assert found.reason == ("" if obeys else "no effect: power (use it, or declare it unused)")
