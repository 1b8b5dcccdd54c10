"""The models: every variant in its place, who sees what, and controls that are what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import bakeoff
from bakeoff.registry.errors import UnsupportedError
from bakeoff.suites.learning.controls import (
    CONVOLUTION,
    LINEAR,
    MEAN,
    control_parts,
    uniform_mean,
)
from bakeoff.suites.learning.given import Given
from bakeoff.suites.learning.models import Sizes, build, cases_of
from bakeoff.suites.learning.parts import Part, fast_forward, usual_parts, visible_options
from bakeoff.suites.learning.plan import refused
from bakeoff.suites.learning.task import Task
from bakeoff.suites.learning.tasks import all_tasks

TASKS = all_tasks()
SIZES = Sizes(depth=1, width=32)
CATALOG = bakeoff.load(entry_points=False, pyproject=False)
#: One task for each way in which a model calls an attention.
PLACES = {name: replace(TASKS[name], batch=4) for name in ("mqar", "digits_patches", "dates")}
#: What has no source in these models.
NOT_GIVEN = {"memory_network"}


def seated(variant: bakeoff.Variant, task: Task, sizes: Sizes = SIZES) -> torch.nn.Module:
    cases = cases_of(variant, task, sizes)
    options = visible_options(variant, cases[0]) if variant.kind == "attention" else {}
    part = Part(variant, fast_forward(variant, cases), options)
    return build(task, usual_parts(CATALOG).having(part), sizes)


def loss_of(model: torch.nn.Module, task: Task) -> torch.Tensor:
    examples = task.make("train", task.batch, 0)
    return task.loss(model(examples.x, examples.given), examples.y)


def trains(model: torch.nn.Module, task: Task) -> None:
    torch.manual_seed(0)
    loss_of(model, task).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    learned = [p for p in model.parameters() if p.grad is not None and p.grad.any()]
    assert len(learned) > 5


@pytest.mark.parametrize("task", PLACES.values(), ids=list(PLACES))
@pytest.mark.parametrize("name", [v.name for v in CATALOG.select(kind="attention")])
def test_every_attention_trains_or_says_why_not(name: str, task: Task) -> None:
    variant = CATALOG[name]
    forward = fast_forward(variant, cases_of(variant, task, SIZES))
    if reason := refused(variant, forward, task, SIZES):
        assert len(reason) > 10
        return
    if name in NOT_GIVEN:
        with pytest.raises(UnsupportedError, match="nothing in this model gives it"):
            seated(variant, task)
        return
    trains(seated(variant, task), task)


@pytest.mark.parametrize("task", ["digits", "digits_patches", "waves"])
@pytest.mark.parametrize("name", [v.name for v in CATALOG.select(kind="activation")])
def test_every_activation_trains(name: str, task: str) -> None:
    small = replace(TASKS[task], batch=4)
    trains(seated(CATALOG[name], small, Sizes(2, 32)), small)


@pytest.mark.parametrize("name", [v.name for v in CATALOG.select(kind="connection")])
def test_every_connection_trains(name: str) -> None:
    small = replace(TASKS["digits"], batch=4)
    trains(seated(CATALOG[name], small, Sizes(8, 32)), small)


def moved(model: torch.nn.Module, x: torch.Tensor, place: int) -> torch.Tensor:
    """Which answers move with the token at ``place``, (N,)."""
    other = x.clone()
    other[:, place] = (other[:, place] + 1) % 16
    model.eval()
    with torch.no_grad():
        return (model(x) - model(other)).abs().amax((0, 2)) > 1e-6


@pytest.mark.parametrize("name", ["scaled_dot_product", "gated_linear", "forgetting", "hard"])
def test_a_causal_model_sees_only_the_past(name: str) -> None:
    task = PLACES["mqar"]
    x = task.make("train", 4, 0).x
    seen = moved(seated(CATALOG[name], task), x, 12)
    assert not seen[:12].any()
    assert seen[12]


def test_the_convolution_sees_as_far_as_it_says() -> None:
    task = PLACES["mqar"]
    x = task.make("train", 4, 0).x
    blind = control_parts(MEAN, "attention", usual_parts(CATALOG), CATALOG)
    values = build(task, blind, SIZES)
    assert torch.equal(moved(values, x, 12), torch.arange(32) >= 12)
    without = build(replace(task, convolution=0), usual_parts(CATALOG), SIZES)
    assert sum(p.numel() for p in without.parameters()) < sum(
        p.numel() for p in values.parameters()
    )


def test_models_differ_only_in_their_parts() -> None:
    task = PLACES["mqar"]
    one, other = (seated(CATALOG[name], task) for name in ("scaled_dot_product", "gated_linear"))
    theirs = dict(other.named_parameters())
    assert len(theirs) > len(list(one.parameters()))
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, theirs[name]), name
    again = build(task, usual_parts(CATALOG), SIZES, seed=1)
    assert not torch.equal(next(again.parameters()), next(one.parameters()))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    seated(CATALOG["performer"], PLACES["mqar"])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["delta_rule", "forgetting", "gated_linear"])
def test_predicted_inputs_lie_where_the_generator_puts_them(name: str) -> None:
    variant = CATALOG[name]
    shape = bakeoff.Shape(4, 2, 2, 16, 16, 8, 8)
    given = Given(variant, shape, 16, variant.options)
    assert variant.inputs is not None
    drawn = variant.inputs(shape, torch.Generator().manual_seed(5))
    (expected,), (key,) = drawn.values(), drawn
    made = given(torch.randn(4, 16, 16))[key]
    assert made.shape == expected.shape
    transforms = {
        "delta_rule": torch.sigmoid,
        "forgetting": lambda z: torch.nn.functional.logsigmoid(z + 2),
        "gated_linear": lambda z: torch.nn.functional.logsigmoid(z) / 16,
    }
    # With the linear map set to the identity on one feature the generator's transform shows.
    linear = given.predicted[key].linear
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        linear.weight[0, 0] = 1.0
        z = torch.linspace(-2.5, 2.5, 16)
        rows = torch.zeros(4, 16, 16)
        rows[..., 0] = z
        curve = given(rows)[key][0, 0].reshape(16, -1)[:, 0]
    scale = float(transforms[name](z).abs().max())
    assert torch.allclose(curve, transforms[name](z), atol=0.05 * scale)


def test_places_are_handed_on_and_a_memory_has_no_source() -> None:
    deformable = CATALOG["deformable"]
    shape = bakeoff.Shape(4, 2, 2, 16, 16, 8, 8)
    given = Given(deformable, shape, 16, deformable.options)
    places = given(torch.randn(3, 16, 16))["reference_points"]
    assert places.shape == (3, 16, 1)
    assert not list(given.parameters())
    memory = CATALOG["memory_network"]
    with pytest.raises(UnsupportedError, match=r"memory_keys .* nothing in this model gives it"):
        Given(memory, shape, 16, memory.options)


def test_options_that_reach_beyond_everything() -> None:
    def shown(name: str, **options: int) -> dict[str, int]:
        variant = CATALOG[name]
        case = cases_of(variant, TASKS["mqar"], Sizes())[0]
        return visible_options(variant, replace(case, options={**case.options, **options}))

    assert shown("sliding_window") == {"window": 4}
    assert shown("sliding_window", window=64) == {}  # asked for
    assert shown("performer") == {}
    assert shown("persistent_memory") == {}
    assert shown("scaled_dot_product") == {}


def test_the_uniform_mean() -> None:
    v = torch.randn(2, 2, 5, 3)
    assert torch.allclose(uniform_mean(v, v, v), v.mean(2, keepdim=True).expand_as(v))
    summed = v.cumsum(2) / torch.arange(1, 6)[:, None]
    assert torch.allclose(uniform_mean(v, v, v, causal=True), summed, atol=1e-6)


def mixed(model: torch.nn.Module, x: torch.Tensor) -> float:
    """How far the answers are from additive in two tokens: zero for a linear network."""
    a, b, c, d = x.clone(), x.clone(), x.clone(), x.clone()
    b[:, 3], c[:, 9] = 5, 7
    d[:, 3], d[:, 9] = 5, 7
    with torch.no_grad():
        return float((model(a) + model(d) - model(b) - model(c)).abs().max())


def test_the_linear_network_is_linear() -> None:
    task, usual = PLACES["mqar"], usual_parts(CATALOG)
    x = task.make("train", 4, 0).x
    linear = build(task, control_parts(LINEAR, "attention", usual, CATALOG), Sizes())
    assert mixed(linear, x) < 1e-4
    assert mixed(build(task, usual, Sizes()), x) > 1e-2
    assert not moved(linear, x, 12)[:12].any()


def test_the_convolution_is_one() -> None:
    task = PLACES["digits_patches"]
    usual = usual_parts(CATALOG)
    trains(build(task, control_parts(CONVOLUTION, "attention", usual, CATALOG), SIZES), task)


@pytest.mark.parametrize("name", ["relu", "swiglu"])
def test_a_gated_activation_gets_as_many_parameters(name: str) -> None:
    task = PLACES["digits_patches"]
    sizes = Sizes(width=48)
    count = sum(p.numel() for p in seated(CATALOG[name], task, sizes).parameters())
    usual = sum(p.numel() for p in build(task, usual_parts(CATALOG), sizes).parameters())
    assert count == pytest.approx(usual, rel=0.01)
