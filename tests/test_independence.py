"""A second forward that runs the reference's code is no second definition."""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_wrong_variants import described, fused, records_of, right, wrong_metrics

import bakeoff
from bakeoff import Activation, Attention, allowed_keys, masked_softmax
from bakeoff.suites.independence import is_independent, unless_dependent
from bakeoff.suites.records import Status
from bakeoff.suites.tracing import run_of
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict

Forward = Callable[..., Any]
CATALOG = bakeoff.load(entry_points=False, pyproject=False)


def again(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def scaled_first(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return right(q * scale, k, v, mask=mask, causal=causal, scale=1.0)


def by_example(q, k, v, *, mask=None, causal=False, scale=None):
    rows = [right(*(x[i : i + 1] for x in (q, k, v)), causal=causal) for i in range(len(q))]
    return torch.cat(rows)


def handed_on(fn, *tensors, **given):
    return fn(*tensors, **given)


def through_a_wrapper(q, k, v, **given):
    return handed_on(right, q, k, v, **given)


class Holder:
    def forward(self, q, k, v, **given):
        return right(q, k, v, **given)


class Within(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        return right(q, k, v)


def within_a_function(q, k, v, **given):
    return Within.apply(q, k, v)


def as_it_was_written(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


copied = types.FunctionType(right.__code__, right.__globals__, "copied", right.__defaults__)
copied.__kwdefaults__ = right.__kwdefaults__
variant = Attention("held", forwards={"reference": right}, metadata=described())


def through_the_variant(q, k, v, **given):
    return variant.forward("reference").fn(q, k, v, **given)


SAME = {
    "called": again,
    "scaled first": scaled_first,
    "by example": by_example,
    "wrapper": through_a_wrapper,
    "lambda": lambda q, k, v, **given: right(q, k, v, **given),
    "partial": functools.partial(right),
    "bound method": Holder().forward,
    "autograd function": within_a_function,
    "code object": copied,
    "catalog": through_the_variant,
    "itself": right,
}


def apart(reference: Forward, other: Forward, **fields: Any) -> bool:
    made = Attention(
        "planted", forwards={"reference": reference, "fast": other}, metadata=described(), **fields
    )
    return is_independent(made, "fast", Subject(made, "fast").case())


@pytest.mark.parametrize("other", SAME.values(), ids=list(SAME))
def test_the_reference_again_is_no_second_definition(other: Forward) -> None:
    assert not apart(right, other)
    assert not apart(other, right)  # nor where the reference runs the other's code


def test_what_computes_alike_on_its_own_is_a_second_definition() -> None:
    assert apart(right, fused)
    assert apart(again, fused)


def test_compiled_it_is_the_same_definition() -> None:
    compiled = torch.compile(right, backend="eager")
    assert not apart(right, compiled)
    assert apart(right, torch.compile(fused, backend="eager"))


def core(q, k, v, scale):
    return (q @ k.mT * scale).softmax(-1) @ v


def of_the_core(q, k, v, *, mask=None, causal=False, scale=None):
    return core(q, k, v, 0.25)


def of_the_core_in_rows(q, k, v, *, mask=None, causal=False, scale=None):
    rows = [core(part, k, v, 0.25) for part in q.split(8, 2)]
    return torch.cat(rows, 2)


def weights_of(q, k, scale):
    return (q @ k.mT * scale).softmax(-1)


def all_but_the_product(q, k, v, **given):
    return weights_of(q, k, 0.25) @ v


def all_but_the_product_too(q, k, v, **given):
    return torch.einsum("bhij,bhjd->bhid", weights_of(q, k, 0.25), v)


def feature(x):
    return F.softplus(x)


def of_features(q, k, v, **given):
    weights = feature(q) @ feature(k).mT
    return weights / weights.sum(-1, keepdim=True) @ v


def of_features_in_linear_time(q, k, v, **given):
    query, key = feature(q), feature(k)
    return query @ (key.mT @ v) / (query @ key.sum(2)[..., None])


def test_a_function_that_does_all_the_work_for_both() -> None:
    assert not apart(of_the_core, of_the_core_in_rows)
    assert not apart(all_but_the_product, all_but_the_product_too)


def test_a_helper_is_no_dependence() -> None:
    assert apart(of_features, of_features_in_linear_time)


def test_the_same_words_are_the_same_definition() -> None:
    assert not apart(right, as_it_was_written)


def through(fn: Forward) -> Forward:
    def forward(*tensors, mask=None, causal=False, scale=None):
        return fn(*tensors)

    return forward


def test_what_a_factory_makes_differs_by_what_it_was_given() -> None:
    plain, sdpa = lambda q, k, v: core(q, k, v, 0.25), lambda q, k, v: fused(q, k, v, scale=0.25)
    assert apart(through(plain), through(sdpa))
    assert not apart(through(plain), through(plain))


@pytest.mark.parametrize(
    ("reference", "other", "expected"),
    [
        (F.relu, lambda x: torch.relu(x), False),
        (F.relu, lambda x: x.clamp(min=0), True),
        (F.tanhshrink, lambda x: x - torch.tanh(x), True),
    ],
)
def test_an_operation_of_torch_is_a_definition_once(
    reference: Forward, other: Forward, expected: bool
) -> None:
    made = Activation(
        "planted", forwards={"reference": reference, "fast": other}, metadata=described()
    )
    assert is_independent(made, "fast", Subject(made, "fast").case()) is expected


def falls_back(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None:
        return right(q, k, v, mask=mask, causal=causal, scale=scale)
    return fused(q, k, v, causal=causal, scale=scale)


def test_each_case_by_itself() -> None:
    made = Attention(
        "planted", forwards={"reference": right, "fast": falls_back}, metadata=described()
    )
    case = Subject(made, "fast").case()
    assert is_independent(made, "fast", case)
    assert not is_independent(made, "fast", case, masked=True)


def test_what_is_said() -> None:
    fine, bad = Verdict(Status.OK, 0.3), Verdict(Status.WRONG, 9.0)
    dependent = Attention(
        "planted", forwards={"reference": right, "fast": again}, metadata=described()
    )
    case = Subject(dependent, "fast").case()
    assert unless_dependent(fine, dependent, "reference", case) is fine  # reports say the rest
    said = unless_dependent(fine, dependent, "fast", case)
    assert said.status is Status.UNVERIFIED
    assert said.reason.endswith("what the reference computes with runs within it")
    assert unless_dependent(bad, dependent, "fast", case) is bad
    # One that is independent stands for all.
    forwards = {"reference": right, "fast": again, "fused": fused}
    verified = Attention("planted", forwards=forwards, metadata=described())
    assert unless_dependent(fine, verified, "fast", case) is fine
    assert unless_dependent(fine, verified, "reference", case) is fine


def test_a_run_sets_the_profiler_back() -> None:
    before = sys.getprofile()
    with pytest.raises(ZeroDivisionError):
        run_of(lambda: 1 / 0)
    assert sys.getprofile() is before


def _usual(variant: bakeoff.Variant, name: str) -> list[Subject]:
    return [Subject(variant, name, grid=grid) for grid in (False, True)]


@pytest.mark.parametrize("variant", CATALOG.values(), ids=list(CATALOG))
def test_every_forward_that_is_registered_is_a_second_definition(variant: bakeoff.Variant) -> None:
    for name in variant.forwards:
        for subject in _usual(variant, name) if name != "reference" else ():
            try:
                case = subject.case()
            except Unsupported:
                continue
            assert is_independent(variant, name, case), name


def test_a_certificate_of_the_reference_again() -> None:
    made = Attention("planted", forwards={"reference": right, "fast": again}, metadata=described())
    records = records_of(made, "accuracy", "gradient")
    assert not wrong_metrics(records)
    ratios = [r for r in records if "error_ratio" in r.metric]
    of_fast = {r.status for r in ratios if r.cell.forward == "fast"}
    assert of_fast == {Status.UNVERIFIED}
    certificate = bakeoff.check(made, catalog=CATALOG, dtypes="float32", covering=())
    assert {f.name: f.verdict for f in certificate.forwards} == dict.fromkeys(
        ("reference", "fast"), "unverified"
    )
