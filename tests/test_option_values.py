"""Options and scales under other values: what is ignored, and what only looks so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_wrong_variants import described, fused, right

import bakeoff
from bakeoff import Activation, Attention, Identity, InvalidVariantError, Variant
from bakeoff.suites.agreements import options_obeyed, scale_given
from bakeoff.suites.records import Status
from bakeoff.suites.sensitivity import arguments_matter, other_values
from bakeoff.suites.verdicts import Subject, Unsupported

Function = Callable[..., Any]


def reference(x, *, mode, powers, limit):
    y = sum(x.abs() ** power for power in powers) * (2.0 if mode == "double" else 1.0)
    return y if limit is None else y.clamp(max=limit)


def ignores_mode(x, *, mode, powers, limit):
    return reference(x, mode="mean", powers=powers, limit=limit)


def ignores_limit(x, *, mode, powers, limit):
    return reference(x, mode=mode, powers=powers, limit=None)


def ignores_the_last_power(x, *, mode, powers, limit):
    return reference(x, mode=mode, powers=(powers[0], 2.5), limit=limit)


VALUES = {"mode": ("mean", "double"), "limit": (None, 0.5)}


def planted(fn: Function, **fields: Any) -> Activation:
    options = {"mode": "mean", "powers": (1.5, 2.5), "limit": None}
    return Activation(
        "planted",
        forwards={"reference": reference, "fast": fn},
        options=options,
        metadata=described(tags=("hidden_layer",)),
        **fields,
    )


def test_what_nobody_knows_another_value_of_is_not_accused() -> None:
    variant = planted(reference)
    with pytest.raises(Unsupported, match="known of mode, limit: declare some in option_values"):
        arguments_matter(Subject(variant, "fast"))
    assert options_obeyed(Subject(variant, "fast")).status is Status.OK


def test_declared_values_are_tried() -> None:
    variant = planted(reference, option_values=VALUES)
    assert arguments_matter(Subject(variant, "fast")).status is Status.OK
    assert options_obeyed(Subject(variant, "fast")).status is Status.OK


@pytest.mark.parametrize(
    ("fn", "name"), [(ignores_mode, "mode"), (ignores_limit, "limit")], ids=["text", "None"]
)
def test_an_option_that_is_ignored(fn: Function, name: str) -> None:
    subject = Subject(planted(fn, option_values=VALUES), "fast")
    assert arguments_matter(subject).reason.startswith(f"no effect: {name}")
    assert options_obeyed(subject).reason.startswith(f"{name} = ")


def test_each_number_of_a_tuple_is_varied() -> None:
    subject = Subject(planted(ignores_the_last_power, option_values=VALUES), "fast")
    verdict = options_obeyed(subject)
    assert verdict.status is Status.WRONG
    assert verdict.reason.startswith("powers = (1.5, ")
    assert {len(v) for v in other_values(subject.variant, "powers", 24)} == {2}


def test_identities_name_values_too() -> None:
    identity = Identity(
        "double", equals=lambda x: 2 * x, options=lambda features: {"mode": "double"}
    )
    variant = planted(ignores_mode, identities=(identity,))
    assert other_values(variant, "mode", 24) == ("double",)
    assert arguments_matter(Subject(variant, "fast")).reason.startswith("no effect: mode")


def dropped(rate_counts: bool) -> Attention:
    def noise(shape, generator, rate):
        size = (shape.batch, shape.heads, shape.q_len, shape.k_len)
        kept = torch.rand(size, generator=generator) >= (rate if rate_counts else 0.1)
        return {"keep": kept.float()}

    def forward(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
        o = right(q, k, v, mask=mask, causal=causal, scale=scale)
        return o if keep is None else o * keep.mean(-1, keepdim=True)

    return Attention(
        "planted",
        forwards={"reference": forward},
        options={"rate": 0.2},
        noise=noise,
        metadata=described(properties={"stochastic": True}),
    )


def test_an_option_that_acts_through_noise() -> None:
    assert arguments_matter(Subject(dropped(True), "reference")).status is Status.OK
    verdict = arguments_matter(Subject(dropped(False), "reference"))
    assert verdict.reason.startswith("no effect: rate")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("mean", r"option_values: got .*, expected a mapping of an option's name"),
        ({"mood": ("a",)}, "expected the name of an option; did you mean"),
        ({"mode": "double"}, r"option_values\['mode'\]: got .*, expected a tuple of at least one"),
        ({"mode": ()}, "a tuple of at least one value"),
        ({"mode": ([1],)}, "expected values, each a bool, a number"),
    ],
)
def test_values_that_are_no_values(values: Any, told: str) -> None:
    catalog = bakeoff.load(entry_points=False, pyproject=False)
    variant = planted(reference, option_values=values)
    with pytest.raises(InvalidVariantError, match=told):
        catalog.with_variants(variant)


def scaled(change: Function) -> Variant:
    def forward(q, k, v, *, mask=None, causal=False, scale=None):
        return fused(q, k, v, mask=mask, causal=causal, scale=change(scale))

    return Attention(
        "planted", forwards={"reference": right, "fast": forward}, metadata=described()
    )


SCALES = {
    "scale 0:": lambda scale: scale or None,
    "scale -0.4:": lambda scale: None if scale is None else abs(scale),
    "scale 1:": lambda scale: None if scale == 1 else scale,
    "scale 1.7:": lambda scale: None if scale is None else min(scale, 1.0),
}


@pytest.mark.parametrize("told", SCALES)
def test_a_scale_that_is_taken_for_another(told: str) -> None:
    verdict = scale_given(Subject(scaled(SCALES[told]), "fast"))
    assert verdict.status is Status.WRONG
    assert verdict.reason.startswith(told)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scale_that_is_taken_as_it_is(dtype: str) -> None:
    assert scale_given(Subject(scaled(lambda scale: scale), "fast", dtype)).status is Status.OK


def test_a_formula_need_not_have_a_negative_scale() -> None:
    def root(q, k, v, *, mask=None, causal=False, scale=None):
        return right(q, k, v, mask=mask, causal=causal, scale=(scale or 0.2) ** 0.5)

    variant = Attention("planted", forwards={"reference": root}, metadata=described())
    assert scale_given(Subject(variant, "reference")).status is Status.OK
