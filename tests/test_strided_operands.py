"""No forward hands torch a matrix in half precision whose rows are of odd length and lie apart.

torch 2.13 reads beyond the edge of such a one on a CPU with AMX. Here the layout of every operand
is looked at, in the backward too, which any machine can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

import bakeoff
from bakeoff.registry.layout import pack_gradient, pack_rows, rows_lie_apart
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.layouts import _LAYOUTS
from bakeoff.suites.operands import StridedOperands
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import Arguments, arguments_for, why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
OURS = [variant for variant in CATALOG.values() if "peers" not in CATALOG.origins[variant.name]]
#: Odd sizes of each kind: of a head, of the length, of the heads; and one query against many keys.
ATTENTION = [
    ("causal_self", Shape(2, 2, 2, 37, 37, 7, 5)),
    ("self", Shape(1, 1, 1, 33, 33, 7, 7)),
    ("causal_self", Shape(1, 3, 3, 37, 37, 8, 8)),
    ("decode", Shape(2, 3, 3, 1, 33, 9, 9)),
]
ON_GRID = [
    ("self", Shape(2, 2, 2, 35, 35, 7, 5, grid=((5, 7),))),
    ("self", Shape(1, 3, 3, 35, 35, 8, 8, grid=((5, 7),))),
]
FEATURES = [FeatureShape(2, 37, 22), FeatureShape(1, 37, 33)]


def cases(variant: Variant, forward: str) -> Iterator[Case]:
    given = {"kind": variant.kind, "options": variant.options, "dtype": "bfloat16"}
    if variant.kind == "attention":
        for pattern, shape in [*ATTENTION, *ON_GRID]:
            case = Case(shape=usual_heads(variant, shape), pattern=pattern, **given)
            if why_not(variant, forward, case) is None:
                yield case
    else:
        for features in FEATURES:
            case = Case(shape=features, pattern=None, **given)
            if why_not(variant, forward, case) is None:
                yield case


LABELS = [(v, forward) for v in OURS for forward in v.forwards if any(cases(v, forward))]


def masked(arguments: Arguments, variant: Variant, forward: str) -> Arguments:
    """With a mask of keys, where the forward takes one and is causal."""
    if not arguments.plain.get("causal") or variant.forward(forward).masks == "none":
        return arguments
    mask = torch.ones(arguments.data["k"].shape[2], dtype=torch.bool)
    mask[::3] = False
    return arguments.having(mask=mask)


@pytest.mark.parametrize(("variant", "forward"), LABELS, ids=lambda x: getattr(x, "name", x))
def test_no_operand_has_rows_of_odd_length_that_lie_apart(variant: Variant, forward: str) -> None:
    fn = variant.forward(forward).fn
    looked = 0
    for case in cases(variant, forward):
        arguments = masked(arguments_for(variant, case), variant, forward)
        for layout, lay in {"as usual": torch.clone, **_LAYOUTS}.items():
            leaves = arguments.requiring_grad()
            laid = leaves.map(lay)
            if laid.branch is not None:  # the products of a branch are the caller's own
                laid = replace(laid, branch=None, data={**laid.data, "branch": torch.tanh})
            with StridedOperands() as seen:
                output = laid.call(fn)
                if output.requires_grad and variant.forward(forward).backward:
                    # With an odd size autograd's own products would take it as the caller lays it.
                    into = torch.randn_like(output, memory_format=torch.contiguous_format)
                    into = into if into.shape[-1] % 2 else lay(into)
                    wanted = list(leaves.leaves().values())
                    torch.autograd.grad(output, wanted, into, allow_unused=True)
            assert not seen.found, f"{case.shape}, {layout}: {seen.found}"
            looked += 1
    assert looked


@pytest.mark.parametrize("lay", _LAYOUTS.values(), ids=list(_LAYOUTS))
def test_packed_rows_adjoin(lay: object) -> None:
    assert callable(lay)
    tensor = lay(torch.randn(1, 3, 37, 7).bfloat16())
    packed = pack_rows(tensor)
    assert torch.equal(packed, tensor)
    assert not rows_lie_apart(packed)
    for other in (tensor.float(), tensor[..., :6]):
        assert pack_rows(other) is other


def test_one_row_of_each_head_is_seen() -> None:
    """Batched they are fine; folded into one matrix they lie apart."""
    row = torch.zeros(2, 3, 33, 7, dtype=torch.bfloat16)[:, :, -1:]
    assert rows_lie_apart(row)
    assert not rows_lie_apart(row[:, :, :, :6])


def test_a_packed_gradient() -> None:
    x = torch.randn(1, 3, 37, 7).bfloat16().requires_grad_()
    weight = torch.randn(7, 8).bfloat16()
    for pack in (pack_gradient, torch.Tensor.clone):
        with StridedOperands() as seen:
            output = pack(x @ weight[:, :7])
            torch.autograd.grad(output, x, torch.ones(1, 3, 37, 9).bfloat16()[..., :7])
        # The weight and its transpose lie apart themselves.
        assert len(seen.found) == (2 if pack is pack_gradient else 3)


def test_plain_products_are_seen() -> None:
    """What any formula does that does not pack: with odd heads the watch must say so."""
    q, k, v = (torch.randn(1, 1, 37, 10).bfloat16()[..., 2:9].requires_grad_() for _ in range(3))
    with StridedOperands() as seen:
        output = (q @ k.mT).softmax(-1) @ v
        assert len(seen.found) == 3
        output.sum().backward()
    assert seen.products == 6
    assert len(seen.found) > 3


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_packed_gradient_under_transforms() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return pack_gradient(pack_rows(x) @ weight).float().square().sum()

    x, weight = torch.randn(2, 3, 7).bfloat16(), torch.randn(7, 7).bfloat16()
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    assert torch.equal(torch.func.vmap(torch.func.grad(loss))(x), expected)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert torch.equal(torch.autograd.grad(compiled(leaf), leaf)[0], expected)
