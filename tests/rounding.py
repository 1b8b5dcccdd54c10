"""What half precision leaves of a forward: its error against the float64 reference, by length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Attention, Variant
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import Arguments, arguments_for, dtype_of, unit_roundoff, why_not

__all__ = ["FEATURES", "Rounding", "Sample", "cases", "forwards", "sample_of"]

#: Of activations and connections, where no sum grows with the length.
FEATURES = FeatureShape(batch=1, seq_len=128, features=64)
#: The name of the recurrent form beside the forwards.
RECURRENCE = "recurrence"


@dataclass(frozen=True)
class Rounding:
    """How far a forward in half precision is from the float64 reference.

    Args:
        relative_error: The norm of the error, divided by the norm of the exact output.
        zeros: Share of the rows that are all zero where the exact ones are not.
        infinite: Share of the rows with a number that is not finite where the exact one is.
        moved: The relative error that rounding the inputs once more, and the result, would cost.
    """

    relative_error: float
    zeros: float
    infinite: float
    moved: float


@dataclass(frozen=True)
class Sample:
    """One draw: the arguments in half precision, and what float64 makes of the same numbers.

    Buffers reach float64 as the variant declares them, so that one which does not survive the cast
    is seen.
    """

    variant: Variant
    case: Case
    narrow: Arguments
    exact: torch.Tensor
    moved: float

    def rounding(self, forward: str) -> Rounding:
        """Of one forward, or of the recurrent form over the whole sequence."""
        with torch.no_grad():
            found = self.narrow.call(_function(self.variant, forward)).double()
        exact, norm = self.exact, float(self.exact.norm())
        rows = exact.isfinite().all(-1)
        infinite = rows & ~found.isfinite().all(-1)
        zeros = rows & (found == 0).all(-1) & (exact != 0).any(-1)
        fits = exact.isfinite() & found.isfinite()
        error = float((found - exact)[fits].norm()) / norm if norm else 0.0
        return Rounding(error, _share(zeros), _share(infinite), self.moved)


def sample_of(variant: Variant, case: Case) -> Sample:
    """Draw the inputs of a case in its dtype, and compute the reference on them in float64."""
    dtype, fn = dtype_of(case.dtype), variant.forward("reference").fn
    drawn = arguments_for(variant, replace(case, dtype="float64"))
    narrow = drawn.to(dtype)
    wide = replace(narrow.to(torch.float64), fixed=drawn.fixed)
    generator = torch.Generator().manual_seed(case.seed + 1)
    u = unit_roundoff(dtype)

    def move(x: torch.Tensor) -> torch.Tensor:
        signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
        return x * (1 + u * signs.to(x))

    with torch.no_grad():
        exact = wide.call(fn)
        change = wide.map(move).call(fn).sub_(exact)
    fits = change.isfinite() & exact.isfinite()
    norm = float(exact[fits].norm())
    moved = math.hypot(float(change[fits].norm()) / norm, u) if norm else u
    return Sample(variant, case, narrow, exact, moved)


def cases(variant: Variant, dtype: str, length: int) -> Iterator[Case]:
    """One example with one head of 64 features, plain and causal; or rows of 64 features."""

    def case(shape: Shape | FeatureShape, pattern: str | None) -> Case:
        return Case(
            kind=variant.kind, shape=shape, pattern=pattern, options=variant.options, dtype=dtype
        )

    if not isinstance(variant, Attention):
        yield case(FEATURES, None)
        return
    heads = 2 if variant.grouped else 1
    plain = usual_heads(variant, Shape(1, heads, heads, length, length, 64, 64))
    side = 1 << (length.bit_length() - 1) // 2
    on_grid = replace(plain, grid=((side, length // side),))
    for pattern in ("self", "causal_self"):
        tried = [case(shape, pattern) for shape in (plain, on_grid)]
        yield from [c for c in tried if why_not(variant, "reference", c) is None][:1]


def forwards(variant: Variant, case: Case) -> Iterator[str]:
    """What can run the case; where causal the recurrent form too."""
    yield from (name for name in variant.forwards if why_not(variant, name, case) is None)
    if isinstance(variant, Attention) and variant.recurrence is not None and case.causal:
        yield RECURRENCE


def _function(variant: Variant, forward: str) -> Any:
    if forward != RECURRENCE:
        return variant.forward(forward).fn
    assert isinstance(variant, Attention)
    recurrence = variant.recurrence
    assert recurrence is not None
    return lambda *tensors, **same: recurrence(*tensors, **same)[0]


def _share(rows: torch.Tensor) -> float:
    return float(rows.double().mean())
