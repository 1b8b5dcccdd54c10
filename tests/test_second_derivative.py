"""A second derivative is right, or refused with an error that says so.

Hessian-vector products of every faster forward, in float64, beside those of its reference.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import bakeoff
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import Arguments, arguments_for, why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
#: A package's own function, whose second derivative is NaN.
SILENT = {("entmax15", "package")}
SHAPE = Shape(2, 2, 2, 21, 21, 4, 4)
SHAPES = {
    "activation": [(None, FeatureShape(2, 5, 6))],
    "connection": [(None, FeatureShape(2, 5, 6))],
    "attention": [
        ("self", SHAPE),
        ("causal_self", SHAPE),
        ("self", replace(SHAPE, q_len=20, k_len=20, grid=((4, 5),))),
    ],
}


def cases(variant: Variant, forward: str) -> list[Case]:
    found = []
    for pattern, shape in SHAPES[variant.kind]:
        shape = usual_heads(variant, shape) if isinstance(shape, Shape) else shape
        case = Case(
            kind=variant.kind,
            shape=shape,
            pattern=pattern,
            options={**variant.options, **({"window": 3} if "window" in variant.options else {})},
            dtype="float64",
            direction="training",
        )
        if why_not(variant, forward, case) is None:
            found.append(case)
    return found


LABELS = [
    (v, name)
    for v in CATALOG.values()
    for name, forward in v.forwards.items()
    if name != "reference"
    and forward.backward
    and (v.name, name) not in SILENT
    and "peers" not in CATALOG.origins[v.name]
    and cases(v, name)
]


def second(variant: Variant, forward: str, arguments: Arguments) -> list[torch.Tensor] | str:
    """The gradient of the sum of all squared gradients; or what was said instead of it."""
    leaves = arguments.requiring_grad()
    output = leaves.call(variant.forward(forward).fn)
    weight = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    named = list(leaves.leaves().values())
    loss = (output * weight).sum() + output.square().sum() / 7
    first = torch.autograd.grad(loss, named, create_graph=True, allow_unused=True)
    penalty = torch.stack([x.square().sum() for x in first if x is not None]).sum()
    try:
        found = torch.autograd.grad(penalty, named, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        return str(error)
    return list(found)


@pytest.mark.parametrize(("variant", "forward"), LABELS, ids=lambda x: getattr(x, "name", x))
def test_a_second_derivative_is_right_or_refused(variant: Variant, forward: str) -> None:
    for case in cases(variant, forward):
        arguments = arguments_for(variant, case)
        found = second(variant, forward, arguments)
        if isinstance(found, str):
            assert "derivative for aten::" in found  # torch's own kernel has none
            continue
        expected = second(variant, "reference", arguments)
        assert isinstance(expected, list)
        size = max(float(x.norm()) for x in expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert float((ours - theirs).norm()) <= 1e-9 * max(size, 1.0), case
