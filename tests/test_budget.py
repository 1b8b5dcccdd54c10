"""What an oracle judges, what it leaves out, and where it says that nothing can be judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import Activation, Attention, Case, FeatureShape, Metadata, Shape, masked_softmax
from bakeoff.suites.budget import Oracle, gradients_of, output_of
from bakeoff.suites.errors import CEILING, LIMIT, SLICE_LIMIT
from bakeoff.suites.records import Status
from bakeoff.suites.verdicts import agreement

Tensor = torch.Tensor
METADATA = Metadata(
    title="Planted",
    summary="For tests.",
    formula="y",
    strengths="short",
    weaknesses="useless",
    use_when="Never.",
    tags="hidden_layer",
)


@pytest.mark.parametrize(("size", "right"), [(3e4, False), (4e4, True), (7e4, True)])
def test_what_may_overflow(size: float, right: bool) -> None:
    """Float16 ends at 65504; from half of it on an error may carry beyond."""
    fn = {"reference": lambda x: x * 0 + size}
    variant = Activation("planted", forwards=fn, metadata=METADATA)
    case = Case(kind="activation", shape=FeatureShape(1, 3, 4), dtype="float16")
    oracle = Oracle(variant, case)
    assert oracle.judge(lambda x: torch.full_like(x, torch.inf))[0].right == right


def sums(x: Tensor, wide: bool) -> Tensor:
    """x ÷ Σ (x + 9)², of which the sum leaves the range of float16."""
    y = x.to(torch.promote_types(x.dtype, torch.float32)) if wide else x
    return (x / (y + 9).square().sum(-1, keepdim=True)).to(x.dtype)


def overflowing(dtype: str, wide: bool = False) -> Oracle:
    variant = Activation(
        "planted", forwards={"reference": lambda x: sums(x, wide)}, metadata=METADATA
    )
    return Oracle(variant, Case(kind="activation", shape=FeatureShape(1, 4, 2048), dtype=dtype))


def verdict(oracle: Oracle, name: str, fn: Callable[..., Tensor]) -> Status:
    return agreement(oracle, name, oracle.judge(fn)[0]).status


def test_a_reference_that_loses_its_result_judges_nothing() -> None:
    oracle = overflowing("float16")
    loss = oracle.reference_loss()
    assert loss.error > 0.99 > CEILING
    assert verdict(oracle, "reference", lambda x: sums(x, False)) is Status.UNDETERMINED
    told = agreement(oracle, "reference", oracle.judge(lambda x: sums(x, False))[0]).reason
    assert "in float16 the reference's own error is 100% of the RMS of its output" in told
    assert "accumulate in float32, or refuse the dtype in `supports`" in told


def test_others_are_held_to_what_remains() -> None:
    oracle = overflowing("float16")
    assert verdict(oracle, "zeros", torch.zeros_like) is Status.WRONG
    assert verdict(oracle, "wide", lambda x: sums(x, True)) is Status.OK


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_that_holds_is_judged(dtype: str) -> None:
    oracle = overflowing(dtype, wide=True)
    assert oracle.reference_loss().is_tolerable
    assert verdict(oracle, "reference", lambda x: sums(x, True)) is Status.OK
    assert verdict(oracle, "zeros", torch.zeros_like) is Status.WRONG


def test_what_is_not_finite_in_places_is_lost() -> None:
    def reference(x: Tensor) -> Tensor:
        return x + torch.where(x > 0.5, x.new_tensor(1e5), 0) - torch.where(x > 0.5, 1e5, 0)

    variant = Activation("planted", forwards={"reference": reference}, metadata=METADATA)
    case = Case(kind="activation", shape=FeatureShape(1, 16, 64), dtype="float16")
    loss = Oracle(variant, case).reference_loss()
    assert 0.2 < loss.lost < 0.4  # P(z > 0.5) = 0.31
    assert "% of it is not finite" in loss.explain()


def right(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    return masked_softmax(q @ k.mT * q.shape[-1] ** -0.5) @ v


def wide(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    return right(q.float(), k.float(), v.float()).to(q.dtype)


def last_row_off(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    output = wide(q, k, v)
    return torch.cat([output[:, :, :-1], output[:, :, -1:] * 1.25], 2)


def all_off(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    return (wide(q, k, v).float() * 1.018).to(q.dtype)


def of_attention(dtype: str) -> Oracle:
    variant = Attention("planted", forwards={"reference": right}, metadata=METADATA)
    shape = Shape(2, 2, 2, 256, 256, 32, 32)
    return Oracle(variant, Case(kind="attention", shape=shape, pattern="self", dtype=dtype))


def test_one_row_and_a_little_everywhere_show_in_half_precision() -> None:
    oracle = of_attention("bfloat16")
    assert oracle.judge(wide)[0].right
    found = oracle.judge(last_row_off)[0]
    assert found.ratio <= LIMIT  # in the mean over 256 rows it does not show
    assert found.slice is not None
    assert found.slice.ratio > SLICE_LIMIT
    assert (found.slice.dim, found.slice.index) == (2, 255)
    assert not found.right
    assert "at index 255 of dimension 2" in found.explain()
    found = oracle.judge(all_off)[0]
    assert not found.right
    assert abs(found.slope - 0.018) < 0.003
    assert "is off by +1." in found.explain()
    assert "% throughout" in found.explain()


def test_what_is_zero_by_symmetry_is_no_loss() -> None:
    """The key bias of an attention: every method has noise in its gradient, and none is wrong."""
    variant = bakeoff.load(entry_points=False, pyproject=False)["multi_head"]
    case = Case(
        kind="attention",
        shape=Shape(2, 2, 2, 37, 37, 16, 16),
        pattern="self",
        options=variant.options,
        direction="training",
    )
    oracle = Oracle(variant, case, gradients_of)
    assert oracle.reference_loss().is_tolerable
    assert all(errors.right for errors in oracle.judge(variant.forward("reference").fn))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype", "measure"),
    [("dot_product", "float32", gradients_of), ("general", "float64", gradients_of),
     ("dot_product", "bfloat16", output_of)],
)  # fmt: skip
def test_few_saturated_rows_do_not_decide(name: str, dtype: str, measure: Any) -> None:
    """Of one query with peaked scores few draws make all of the RMS: more are drawn then."""
    variant = bakeoff.load(entry_points=False, pyproject=False)[name]
    for seed in range(30):
        case = Case(
            kind="attention",
            shape=Shape(2, 2, 2, 1, 131, 32, 32),
            pattern="decode",
            options=variant.options,
            dtype=dtype,
            inputs="peaked",
            direction="training" if measure is gradients_of else "forward",
            seed=seed,
        )
        oracle = Oracle(variant, case, measure)
        worst = oracle.judge(variant.forward("sdpa").fn)[0]
        assert worst.right, f"seed {seed}: {worst.explain()}"
