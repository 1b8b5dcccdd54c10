"""No examples, no queries, no keys: what there is comes out as zeros, and so do the gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

import bakeoff
from bakeoff.registry.binding import takes
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import Arguments, arguments_for, why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
SHAPE = Shape(2, 2, 2, 9, 9, 4, 6)
PATTERNS = [
    ("self", SHAPE),
    ("causal_self", SHAPE),
    ("self", replace(SHAPE, q_len=12, k_len=12, grid=((3, 4),))),
]


def drawn(variant: Variant, forward: str) -> Iterator[Arguments]:
    cases = [(None, FeatureShape(2, 5, 6))]
    if variant.kind == "attention":
        cases = [(pattern, usual_heads(variant, shape)) for pattern, shape in PATTERNS]
    for pattern, shape in cases:
        case = Case(kind=variant.kind, shape=shape, pattern=pattern, options=variant.options)
        if why_not(variant, forward, case) is None:
            yield arguments_for(variant, case)


def emptied(arguments: Arguments, sizes: dict[str, int]) -> Arguments:
    """With nothing along a dimension of some of the tensors of each call."""
    tensors = {**arguments.data, **arguments.given}
    cut = {name: tensors[name].narrow(dim, 0, 0) for name, dim in sizes.items()}
    return arguments.replacing(cut)


def require_zeros(variant: Variant, forward: str, arguments: Arguments) -> None:
    leaves = arguments.requiring_grad()
    output = leaves.call(variant.forward(forward).fn)
    first = next(iter(arguments.data.values()))
    if variant.kind == "attention":
        assert output.shape == (*first.shape[:3], arguments.data["v"].shape[3])
    else:
        assert output.shape[:-1] == first.shape[:-1]
    assert output.count_nonzero() == 0
    if variant.forward(forward).backward:
        named = list(leaves.leaves().values())
        found = torch.autograd.grad(output.sum(), named, allow_unused=True)
        assert all(x is None or x.count_nonzero() == 0 for x in found)


LABELS = [
    (v, name)
    for v in CATALOG.values()
    for name in v.forwards
    if "peers" not in CATALOG.origins[v.name] and any(drawn(v, name))
]
over_forwards = pytest.mark.parametrize(
    ("variant", "forward"), LABELS, ids=lambda x: getattr(x, "name", x)
)


@over_forwards
def test_no_examples(variant: Variant, forward: str) -> None:
    for arguments in drawn(variant, forward):
        own = dict.fromkeys([*arguments.data, *arguments.given], 0)
        require_zeros(variant, forward, emptied(arguments, own))


#: What has tensors of its own, drawn for a length or for a map, forbids another.
FOR_ANY_LENGTH = [
    (variant, forward)
    for variant, forward in LABELS
    if variant.kind == "attention"
    and not any([variant.parameters, variant.inputs, takes(variant, "grid")])
]


@pytest.mark.parametrize("sizes", [{"q": 2}, {"k": 2, "v": 2}, {"q": 2, "k": 2, "v": 2}], ids=str)
@pytest.mark.parametrize(
    ("variant", "forward"), FOR_ANY_LENGTH, ids=lambda x: getattr(x, "name", x)
)
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_no_queries_and_no_keys(
    variant: Variant, forward: str, sizes: dict[str, int], masked: bool
) -> None:
    for arguments in drawn(variant, forward):
        few = emptied(arguments, sizes)
        if masked:
            keys = few.data["k"].shape[2]
            few = few.having(mask=torch.ones(1, 1, 1, keys, dtype=torch.bool))
        if not masked or variant.forward(forward).masks != "none":
            require_zeros(variant, forward, few)
