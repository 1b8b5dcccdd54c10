"""Variants as modules."""

from __future__ import annotations

import copy
import io
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import bakeoff
from bakeoff import Attention, Case, Catalog, FeatureShape, Metadata, Shape, UnsupportedError
from bakeoff.registry.binding import takes
from bakeoff.registry.shapes import PATTERNS
from bakeoff.registry.variants import Variant
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import arguments_for, why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
SHAPE = Shape(batch=2, heads=2, kv_heads=2, q_len=12, k_len=12, head_dim=8, value_dim=8)
GRID = ((3, 4),)
FEATURES = 16
FORWARDS = [(variant, name) for variant in CATALOG.values() for name in variant.forwards]
over_forwards = pytest.mark.parametrize(
    ("variant", "forward"), FORWARDS, ids=[f"{v.name}:{f}" for v, f in FORWARDS]
)
over_variants = pytest.mark.parametrize("variant", CATALOG.values(), ids=list(CATALOG))


def case_of(variant: Variant) -> Case:
    """A small case that the mechanism allows."""
    if variant.kind != "attention":
        return Case(kind=variant.kind, shape=FeatureShape(2, 5, FEATURES), options=variant.options)
    shape = usual_heads(variant, replace(SHAPE, grid=GRID if takes(variant, "grid") else None))
    allowed = variant.declared("patterns", tuple(PATTERNS))
    pattern = "self" if "self" in allowed else allowed[0]
    return Case(kind="attention", shape=shape, pattern=pattern, options=variant.options)


def made(
    variant: Variant, forward: str = "reference", **more: Any
) -> bakeoff.registry.module.VariantModule:
    """A module that draws no noise."""
    shape = case_of(variant).shape
    size = shape if isinstance(shape, Shape) else FEATURES
    generator = torch.Generator().manual_seed(0)
    return bakeoff.module(variant, size, forward=forward, generator=generator, **more).eval()


def example(variant: Variant, dtype: torch.dtype = torch.float32) -> tuple[list[Any], dict]:
    """What a call takes, positional and by keyword: data, inputs and context."""
    case = case_of(variant)
    arguments = arguments_for(variant, case, seed=1).to(dtype)
    given: list[Any] = list(arguments.data.values())
    keywords: dict[str, Any] = dict(arguments.given)
    if variant.kind == "connection":
        given.append(nn.Linear(FEATURES, FEATURES, dtype=dtype))
    elif variant.kind == "attention":
        keywords["causal"] = case.causal
    if takes(variant, "grid"):
        keywords["grid"] = GRID
    return given, keywords


def tensors(variant: Variant) -> list[Any]:
    """What a call of the kind takes, where a variant takes no more."""
    return example(variant)[0]


def test_a_module_is_the_function(catalog: Catalog) -> None:
    module = made(catalog["additive"])
    q, k, v = tensors(catalog["additive"])
    fn = catalog["additive"].forward("reference").fn
    assert torch.equal(module(q, k, v), fn(q, k, v, **dict(module.named_parameters())))


@over_forwards
def test_forwards_of_one_seed_agree(variant: Variant, forward: str) -> None:
    if reason := why_not(variant, forward, case_of(variant)):
        pytest.skip(reason)
    given, keywords = example(variant)
    expected = made(variant)(*given, **keywords)
    found = made(variant, forward)(*given, **keywords)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@over_variants
def test_parameters_learn_and_buffers_do_not(variant: Variant) -> None:
    module = made(variant)
    parameters = dict(module.named_parameters())
    if parameters:
        given, keywords = example(variant)
        module(*given, **keywords).square().sum().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
    assert {*parameters, *dict(module.named_buffers())} == set(module.drawn_names)


@over_variants
def test_it_is_copied_saved_and_loaded(variant: Variant) -> None:
    module = made(variant)
    given, keywords = example(variant)
    expected = module(*given, **keywords)
    assert torch.equal(copy.deepcopy(module)(*given, **keywords), expected)
    fresh = bakeoff.module(variant, module.shape).eval()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(*given, **keywords), expected)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(*given, **keywords), expected)


@over_variants
def test_it_moves_to_another_dtype(variant: Variant) -> None:
    given, keywords = example(variant, torch.float64)
    assert made(variant).double()(*given, **keywords).dtype == torch.float64


def test_it_says_what_it_is(catalog: Catalog) -> None:
    module = made(catalog["sliding_window"], "chunked", options={"window": 3})
    assert repr(module) == "VariantModule(sliding_window:chunked, window=3)"


def test_options_reach_the_forward(catalog: Catalog) -> None:
    q, k, v = tensors(catalog["sliding_window"])
    narrow = made(catalog["sliding_window"], options={"window": 0})
    assert torch.allclose(narrow(q, k, v), v)


def test_masks_and_causality(catalog: Catalog) -> None:
    module = made(catalog["scaled_dot_product"], "sdpa")
    q, k, v = tensors(catalog["scaled_dot_product"])
    lower = torch.ones(12, 12, dtype=torch.bool).tril()
    expected = module(q, k, v, mask=lower)
    torch.testing.assert_close(module(q, k, v, causal=True), expected)
    assert not torch.allclose(module(q, k, v), expected)


def noisy(q, k, v, *, drop, mask=None, causal=False, scale=None):
    return v if drop is None else v * drop


def with_noise() -> Attention:
    return Attention(
        "noisy",
        forwards={"reference": noisy},
        noise=lambda shape, generator: {
            "drop": torch.rand(1, 1, shape.q_len, 1, generator=generator)
        },
        metadata=Metadata(
            title="Noisy",
            summary="For tests.",
            formula="v",
            strengths=("short",),
            weaknesses=("useless",),
            use_when="Never.",
            tags=("soft",),
            unused=("q", "k", "mask", "causal", "scale"),
            properties={"stochastic": True},
        ),
    )


def test_noise_is_drawn_when_training_alone() -> None:
    module = made(with_noise()).train()
    q, k, v = tensors(module.variant)
    assert not torch.equal(module(q, k, v), module(q, k, v))
    module.eval()
    assert torch.equal(module(q, k, v), v)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda c: bakeoff.module(c["relu"], 8, forward="torhc"),
            bakeoff.UnknownNameError,
            "did you mean torch?",
        ),
        (
            lambda c: bakeoff.module(c["sliding_window"], SHAPE, options={"windw": 3}),
            bakeoff.UnknownNameError,
            "sliding_window has no option 'windw'; did you mean window?",
        ),
        (
            lambda c: bakeoff.module(c["sliding_window"], SHAPE, options={"window": "3"}),
            bakeoff.UsageError,
            "option window is '3' (str), expected int like its default 128",
        ),
        (
            lambda c: bakeoff.module(c["relu"], SHAPE),
            bakeoff.UsageError,
            "expected the number of features, at least 1",
        ),
        (
            lambda c: bakeoff.module(c["general"], 8),
            bakeoff.UsageError,
            "general: shape is 8 (int), expected a bakeoff.Shape",
        ),
        (
            lambda c: bakeoff.module("relu", 8),
            bakeoff.UsageError,
            "variant is 'relu' (str), expected one such as bakeoff.load()['relu']",
        ),
        (
            lambda c: made(c["general"])(torch.ones(2, 3)),
            bakeoff.UsageError,
            "general: got 1 positional arguments, expected q, k, v, and all others by keyword",
        ),
        (
            lambda c: made(c["general"])(*[torch.ones(2, 12, 8)] * 3),
            bakeoff.UsageError,
            "general: q has shape (2, 12, 8), expected (batch, heads, length, size)",
        ),
        (
            lambda c: made(c["general"])(*[torch.ones(2, 2, 3, 8)] * 3, mask=torch.ones(3, 3)),
            bakeoff.UsageError,
            "mask has dtype torch.float32, expected torch.bool",
        ),
        (
            lambda c: made(c["sliding_window"], "chunked")(
                *[torch.ones(2, 2, 3, 8)] * 3, mask=torch.ones(3, 3, dtype=torch.bool)
            ),
            UnsupportedError,
            "sliding_window:chunked: it obeys masks of kind 'keys' only, and this one is 'full'",
        ),
        (
            lambda c: made(c["scaled_dot_product"])(
                torch.ones(1, 4, 3, 8), *[torch.ones(1, 2, 3, 8)] * 2
            ),
            UnsupportedError,
            "k has 2 heads and q 4; this variant needs as many of both",
        ),
    ],
)
def test_wrong_calls(catalog: Catalog, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(catalog)


def test_what_is_not_supported_is_told(catalog: Catalog) -> None:
    module = made(catalog["hardsigmoid"], "torch").double()
    x = torch.ones(1, FEATURES, dtype=torch.float64, requires_grad=True)
    with pytest.raises(UnsupportedError, match=r"hardsigmoid:torch: torch's kernel rounds 1/6"):
        module(x)


@over_variants
def test_parameters_come_from_the_generator(variant: Variant) -> None:
    first, second = made(variant).state_dict(), made(variant).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of torch.compile itself
@over_forwards
def test_it_compiles(variant: Variant, forward: str) -> None:
    if reason := why_not(variant, forward, case_of(variant)):
        pytest.skip(reason)
    module, (given, keywords) = made(variant, forward), example(variant)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True)
    expected = module(*given, **keywords)
    torch.testing.assert_close(compiled(*given, **keywords), expected, rtol=1e-4, atol=1e-5)


def test_modules_and_suites_draw_alike(catalog: Catalog) -> None:
    """The suites bind a variant to tensors of their own; both ways must give one function."""
    variant = catalog["multi_head"]
    case = Case(kind="attention", shape=SHAPE, pattern="self")
    arguments = arguments_for(variant, case)
    module = made(variant)
    module.load_state_dict({n: t.detach() for n, t in arguments.learned.items()})
    found = module(*arguments.data.values())
    assert torch.equal(found, arguments.call(variant.forward("reference").fn))
