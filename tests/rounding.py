"""What half precision leaves of a forward: its error against the float64 reference, by length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Attention, Variant
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import Arguments, arguments_for, dtype_of, unit_roundoff, why_not

__all__ = ["BOUND", "DIM", "Rounding", "Sample", "cases", "forwards"]

#: Features of a head.
DIM = 64
#: In units of the roundoff u: how far a result may be from the exact one, relative to its norm.
#: Rounding to nearest is off by 0.41 u in the root mean square. Scores without a scale are √D in
#: size; rounded, they move what they weigh by 0.41 √D = 3.3 u, and nothing else that a method
#: rounds is as large: in quadrature, 4 u leave room for thirty roundings more of single numbers.
BOUND = math.sqrt(DIM) / 2
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
    """

    relative_error: float
    zeros: float
    infinite: float


class Sample:
    """One draw in half precision, and what the float64 reference makes of the same numbers.

    Buffers reach float64 as the variant declares them, so that one which does not survive the cast
    is seen.

    Args:
        variant: The variant.
        case: The case, in float16 or bfloat16.
    """

    def __init__(self, variant: Variant, case: Case) -> None:
        self.variant, self.case = variant, case
        drawn = arguments_for(variant, replace(case, dtype="float64"))
        self.narrow = drawn.to(dtype_of(case.dtype))
        self.wide = replace(self.narrow.to(torch.float64), fixed=drawn.fixed)
        self.exact = self._reference(self.wide)

    def rounding(self, forward: str) -> Rounding:
        """Of one forward, or of the recurrent form over the whole sequence."""
        with torch.no_grad():
            found = self.narrow.call(_function(self.variant, forward)).double()
        exact = self.exact
        rows = exact.isfinite().all(-1)
        infinite = rows & ~found.isfinite().all(-1)
        zeros = rows & (found == 0).all(-1) & (exact != 0).any(-1)
        return Rounding(self._relative(found - exact), _share(zeros), _share(infinite))

    def moved(self) -> float:
        """The relative error that rounding all inputs once more, and the result, would cost."""
        generator = torch.Generator().manual_seed(self.case.seed + 1)
        u = unit_roundoff(dtype_of(self.case.dtype))

        def move(x: torch.Tensor) -> torch.Tensor:
            signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
            return x * (1 + u * signs.to(x))

        moved = replace(self.wide.map(move), fixed=self.wide.fixed)
        return math.hypot(self._relative(self._reference(moved) - self.exact), u)

    def _reference(self, arguments: Arguments) -> torch.Tensor:
        with torch.no_grad():
            return arguments.call(self.variant.forward("reference").fn)

    def _relative(self, error: torch.Tensor) -> float:
        fits = error.isfinite() & self.exact.isfinite()
        norm = float(self.exact[fits].norm())
        return float(error[fits].norm()) / norm if norm else 0.0


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
    plain = usual_heads(variant, Shape(1, heads, heads, length, length, DIM, DIM))
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


def _function(variant: Variant, forward: str) -> Callable[..., torch.Tensor]:
    if forward != RECURRENCE:
        return variant.forward(forward).fn
    assert isinstance(variant, Attention)
    assert variant.recurrence is not None
    step = variant.recurrence

    def output(*tensors: torch.Tensor, **same: Any) -> torch.Tensor:
        return step(*tensors, **same)[0]

    return output


def _share(rows: torch.Tensor) -> float:
    return float(rows.double().mean())
