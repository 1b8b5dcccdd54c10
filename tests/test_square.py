"""What declares less than N² makes no tensor of N × N, neither forward nor training.

The largest tensor of a call is looked at on two lengths, in bytes, so that a mask of N × N counts
too. A block of fixed size is fine: the largest tensor need only grow no faster than declared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import Attention, Case, Forward, Metadata, Shape
from bakeoff.registry.binding import takes
from bakeoff.registry.variants import COMPLEXITIES, Variant
from bakeoff.suites.counting import counted
from bakeoff.suites.grids import grid_of
from bakeoff.suites.growth import TOLERANCE
from bakeoff.suites.tensors import why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
#: The lengths; what computes every pair in small blocks takes long to count.
LONG, SHORT = (1024, 4096), (1024, 3072)
RECURRENCE = "recurrence"

Tensor = torch.Tensor


def growth(forward: Forward) -> float:
    """The exponent of what is declared of memory, or else of FLOPs; 2 where nothing is."""
    return COMPLEXITIES[forward.memory or forward.complexity or "N^2"]


def lengths_of(forward: Forward) -> tuple[int, int]:
    return SHORT if forward.complexity == "N^2" else LONG


def with_recurrence(variant: Variant) -> Variant:
    """The same variant with its recurrence, over all tokens at once, as a linear forward."""
    step = getattr(variant, RECURRENCE, None)
    if step is None:
        return variant

    def whole(q: Tensor, k: Tensor, v: Tensor, **same: Any) -> Tensor:
        output: Tensor = step(q, k, v, **same)[0]
        return output

    def causal(case: Case) -> str | None:
        return None if case.pattern == "causal_self" else "it is causal"

    added = Forward(whole, supports=causal, complexity="N", memory="N")
    return replace(variant, forwards={**variant.forwards, RECURRENCE: added})


def cases(variant: Variant, forward: str) -> Iterator[Case]:
    """At the larger length, every case that it supports."""
    n = lengths_of(variant.forward(forward))[-1]
    plain = Shape(1, 1, 1, n, n, 16, 16)
    shapes = [plain]
    if takes(variant, "grid"):
        shapes.append(replace(plain, grid=grid_of("square", n)))
    for shape in shapes:
        for pattern in ("self", "causal_self"):
            for direction in ("forward", "training"):
                case = Case(
                    kind="attention",
                    shape=shape,
                    pattern=pattern,
                    options=variant.options,
                    direction=direction,
                )
                if why_not(variant, forward, case) is None:
                    yield case


def at(case: Case, n: int) -> Case:
    shape = case.attention_shape
    grid = grid_of("square", n) if shape.grid else None
    return replace(case, shape=replace(shape, q_len=n, k_len=n, grid=grid))


def squares(variant: Variant, forward: str) -> list[str]:
    """Every case in which a tensor is as large as N × N, or grows faster than declared."""
    found = []
    chosen = variant.forward(forward)
    lengths, allowed = lengths_of(chosen), growth(chosen) + TOLERANCE
    for case in cases(variant, forward):
        small, large = (counted(variant, forward, at(case, n)).largest_bytes for n in lengths)
        exponent = math.log(large / small) / math.log(lengths[1] / lengths[0])
        if large >= lengths[1] ** 2 or exponent > allowed:
            told = f"{large} bytes at N = {lengths[1]}, growing like N^{exponent:.2f}"
            found.append(f"{case.pattern} {case.direction}: {told}")
    return found


BELOW = [
    (variant, name)
    for variant in map(with_recurrence, CATALOG.select(kind="attention"))
    for name in variant.forwards
    if name != "reference" and growth(variant.forward(name)) < 2  # an oracle may go token by token
]


@pytest.mark.parametrize(("variant", "name"), BELOW, ids=[f"{v.name}:{f}" for v, f in BELOW])
def test_no_square_where_less_is_declared(variant: Variant, name: str) -> None:
    if not list(cases(variant, name)):
        pytest.skip("it does not run on this machine")
    assert not squares(variant, name)


# Forwards that make what they must not


def dense(q, k, v, *, mask=None, causal=False, scale=None):
    return bakeoff.masked_softmax(q @ k.mT, bakeoff.allowed_keys(q, k, mask, causal)) @ v


def mask_alone(q, k, v, *, mask=None, causal=False, scale=None):
    """A mask of bits for every pair, and nothing else."""
    band = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    return v * band.any()


class Squared(torch.autograd.Function):
    """Linear forward, all pairs in the backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, v)
        return q * v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        q, v = ctx.saved_tensors
        return (gradient @ v.mT) @ v, gradient * q


def squares_backward(q, k, v, *, mask=None, causal=False, scale=None):
    return Squared.apply(q, v)


def growing_windows(q, k, v, *, mask=None, causal=False, scale=None):
    """Each query against √N neighbours, though N is declared."""
    width = math.isqrt(q.shape[2])
    keys = torch.nn.functional.pad(k[..., :4], (0, 0, width - 1, 0)).unfold(2, width, 1)  # a view
    return v * (q[..., :4, None] * keys).sum((-1, -2))[..., None]


def blocks(q, k, v, *, mask=None, causal=False, scale=None):
    """Blocks of fixed size, with views that overlap."""
    keys = torch.nn.functional.pad(k, (0, 0, 256, 0)).unfold(2, 320, 64)  # (…, N / 64, D, 320)
    weights = (q.unflatten(2, (-1, 64)) @ keys).softmax(-1)
    values = torch.nn.functional.pad(v, (0, 0, 256, 0)).unfold(2, 320, 64).mT
    return (weights @ values).flatten(2, 3)


@pytest.mark.parametrize(
    ("fn", "memory", "directions"),
    [
        (dense, "N", {"forward", "training"}),
        (mask_alone, "N", {"forward", "training"}),
        (squares_backward, "N", {"training"}),
        (growing_windows, "N", {"forward", "training"}),
        (growing_windows, "N sqrt N", set()),
        (blocks, "N", set()),
    ],
)
def test_squares_are_found(fn: Any, memory: str, directions: set[str]) -> None:
    metadata = Metadata(
        title="Planted", summary="For tests.", formula="o", strengths=("short",),
        weaknesses=("useless",), use_when="Never.", tags=("soft",),
    )  # fmt: skip
    forwards = {"reference": Forward(dense), "fast": Forward(fn, complexity=memory, memory=memory)}
    found = squares(Attention("planted", forwards=forwards, metadata=metadata), "fast")
    assert {told.split()[1].rstrip(":") for told in found} == directions
