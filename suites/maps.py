"""Who attends to whom: how far each output moves with each value, from the variant itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bakeoff.registry.binding import takes
from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import Arguments, arguments_for, why_not
from bakeoff.suites.verdicts import Unsupported

__all__ = ["LENGTH", "MAPPED", "AttentionMap", "attention_map", "options_that_show"]

#: Positions of a map: few enough for a terminal.
LENGTH = 32
PLAIN = Shape(batch=1, heads=2, kv_heads=2, q_len=LENGTH, k_len=LENGTH, head_dim=8, value_dim=8)
ON_GRID = replace(PLAIN, grid=((4, 8),))
#: The patterns of which maps are made.
MAPPED = ("self", "causal_self")
#: An option so large that it makes no difference at this length is set to this.
VISIBLE = LENGTH // 16
#: Half the distance of a central difference. Nearly every attention is linear in its values, where
#: differences are exact but for rounding.
STEP = 1e-4
#: What is smaller than this share of the largest is rounding.
NOTHING = 1e-9
DEEPEST = 9


@dataclass(frozen=True)
class AttentionMap:
    """Who attends to whom in one example.

    Args:
        weights: (Nq, Nk): the norm of the derivative of output i by value j, over the size of a
            head, summed over heads.
        options: Options that differ from their defaults, since those would not show.
    """

    weights: torch.Tensor
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Pairs of which the key has any influence, as a share."""
        return float(self._seen().double().mean())

    @property
    def rows(self) -> list[str]:
        """A digit for each pair: 0 for none, else up to 9 for the largest of its query."""
        largest = self.weights.amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        depth = (DEEPEST * self.weights / largest).ceil().clamp(max=DEEPEST) * self._seen()
        return ["".join(str(int(cell)) for cell in row) for row in depth]

    def _seen(self) -> torch.Tensor:
        return self.weights > NOTHING * self.weights.max()


def attention_map(variant: Variant, pattern: str) -> AttentionMap:
    """The map of the reference on one example, when not training.

    Differences and not autograd: they hold for what is not differentiable too, as the choice of a
    hard attention.

    Raises:
        Unsupported: Where the mechanism does not allow the pattern.
    """
    case = _case(variant, pattern)
    options = options_that_show(variant, case)
    arguments = arguments_for(variant, replace(case, options={**variant.options, **options}))
    fn = variant.forward("reference").fn
    v = arguments.data["v"]
    squares = torch.zeros(case.attention_shape.heads, LENGTH, LENGTH, dtype=v.dtype)
    with torch.no_grad():
        for head, j, d in torch.cartesian_prod(*map(torch.arange, v.shape[1:])).tolist():
            ends = []
            for step in (STEP, -STEP):
                moved = v.clone()
                moved[:, head, j, d] += step
                ends.append(arguments.replacing({"v": moved}).call(fn))
            slope = (ends[0] - ends[1])[0] / (2 * STEP)  # (H, Nq, Dv)
            squares[:, :, j] += slope.square().sum(-1)
    return AttentionMap(squares.sqrt().sum(0), options)


def _case(variant: Variant, pattern: str) -> Case:
    case = Case(
        kind=variant.kind,
        shape=usual_heads(variant, PLAIN),
        pattern=pattern,
        options=variant.options,
        dtype="float64",
    )
    reason = why_not(variant, "reference", case)
    if reason and takes(variant, "grid"):
        case = replace(case, shape=usual_heads(variant, ON_GRID))
        reason = why_not(variant, "reference", case)
    if reason:
        raise Unsupported(reason)
    return case


def options_that_show(variant: Variant, case: Case) -> dict[str, int]:
    """Smaller values for lengths that reach beyond the whole map, as a window of 128."""
    before = _output(variant, case)
    found = {}
    for name, value in variant.options.items():
        if isinstance(value, int) and value > LENGTH:
            shorter = replace(case, options={**variant.options, name: LENGTH})
            try:
                after = _output(variant, shorter)
            except (RuntimeError, ValueError, ArithmeticError, LookupError):
                continue  # a value that the option does not allow
            if torch.equal(before, after):
                found[name] = VISIBLE
    return found


def _output(variant: Variant, case: Case) -> torch.Tensor:
    arguments: Arguments = arguments_for(variant, case)
    with torch.no_grad():
        return arguments.call(variant.forward("reference").fn)
