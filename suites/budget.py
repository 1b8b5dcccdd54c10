"""Error budgets: how far a result may be from the float64 reference, derived and not tuned.

The budget of a quantity is the RMS error of the reference, run in the dtype at hand, plus u times
the RMS of the absolute terms that make up the quantity, u the unit roundoff. The second part is
what rounding each input once, and the result once, costs any method: it is found by moving every
input by ±u of its size and looking at what moves (Monte Carlo arithmetic, Parker 1997, on the
inputs); for gradients, every gradient that one operation of the reference hands to the next is
moved too, since any backward must round what it hands on. (A gradient that is a sum of cancelling
terms is known no better than that: the key bias of an attention has a gradient of exactly zero,
whatever the inputs, and no method finds it.) Where the inputs are larger than 1 they are moved that
much further, for then the exponents within are larger than 1 too, and a method that computes
exp(s − log Σ exp s), as every fused attention does, rounds s by u·|s|. ``error_ratio`` is RMS error
÷ budget, over all elements of several seeds; up to :data:`LIMIT` it passes.

A budget has a ceiling. Where the reference's own error is more than :data:`CEILING` of the
quantity's RMS, the reference has lost its result in this dtype and can judge nothing: it is
*undetermined* there. Other forwards are held to what is left of the budget, the cost of a method
that accumulates in a wider dtype and rounds once. Nor is any budget more than that share.

A mean over all elements hides what is wrong in a few of them. So the ratio is taken along every
dimension too: of one batch entry, one head, one row, one feature, over all others and all seeds.
And a mean of squares hides what is slightly wrong everywhere: in half precision, where budgets are
wide, the slope of what was found on what is exact is judged as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.errors import CEILING, LIMIT, Errors, ReferenceLoss, Slice, ratio_of
from bakeoff.suites.moments import Moments
from bakeoff.suites.tensors import Arguments, arguments_for, dtype_of, unit_roundoff

__all__ = [
    "SEEDS",
    "Function",
    "Oracle",
    "Quantities",
    "gradients_of",
    "move_gradients",
    "moved",
    "output_of",
]

#: Draws that are pooled: with fewer, the largest of a few errors decides.
SEEDS = 8
#: An excess between these may be that of a heavy tail, of which few draws have seen little, or too
#: much: then this many draws decide, and at least so many rows of an attention.
NEAR_LIMIT, MORE_SEEDS = (0.4, 10.0), 32
#: Queries that are pooled at least for a variant that is not continuous, and near the limit.
JUMPING_ROWS = 1024
#: Elements, over all draws, of which the error of a slice can be estimated.
SLICE_ELEMENTS = 512
#: By what share of its size nothing is moved further: there every digit is in doubt already.
MOST_MOVED = 0.5
#: Standard errors by which a slope may differ from 0.
SLOPE_ERRORS = 3.0

Quantities = Mapping[str, torch.Tensor]
Function = Callable[..., torch.Tensor]
#: ``(function, arguments, seed, by)``: its quantities, with everything moved by ±``by``.
Measure = Callable[[Function, Arguments, int, float], Quantities]


def output_of(fn: Function, arguments: Arguments, seed: int, by: float = 0.0) -> Quantities:
    """The output, as the only quantity."""
    with torch.no_grad():
        return {"output": moved(arguments, by, seed).call(fn)}


def gradients_of(fn: Function, arguments: Arguments, seed: int, by: float = 0.0) -> Quantities:
    """The gradient of every leaf, of the output's product with a random tensor of ±1.

    Signs are exact in every dtype, so the direction adds no error of its own.
    """
    leaves = moved(arguments, by, seed).requiring_grad()
    output = leaves.call(fn)
    if by:
        move_gradients(output, by, seed)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
    named = leaves.leaves()
    gradients = torch.autograd.grad(
        output, list(named.values()), signs.to(output), allow_unused=True
    )
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(named.items(), gradients, strict=True)
    }


@dataclass(frozen=True)
class _Draw:
    """Arguments of one seed, with the oracle's quantities and the elements that are judged."""

    seed: int
    arguments: Arguments
    oracle: Quantities
    judged: Quantities


def _draws_of(variant: Variant, case: Case) -> int:
    """How many seeds are pooled: :data:`SEEDS`, and more for few rows of what jumps.

    A choice, as of one key, jumps where rounding turns a near tie; with few queries the budget may
    see no jump where a right forward has one.
    """
    return SEEDS if variant.declared("differentiable", True) else max(SEEDS, _draws_of_rows(case))


def _draws_of_rows(case: Case) -> int:
    """How many draws hold :data:`JUMPING_ROWS` queries."""
    if not isinstance(case.shape, Shape):
        return SEEDS
    rows = case.shape.batch * case.shape.heads * case.shape.q_len
    return math.ceil(JUMPING_ROWS / rows)


class Oracle:
    """The float64 reference of one case, with the budget of every quantity.

    Args:
        variant: Whose ``reference`` it is.
        case: The case; the oracle sees the inputs after rounding to its dtype.
        measure: :func:`output_of` or :func:`gradients_of`.
        prepare: Changes the arguments of a draw (a mask, say), given them and the seed.
        reference: The function, if it is not the variant's reference.
        first: Draws that are enough where they show nothing wrong; None for the usual number.
    """

    def __init__(
        self,
        variant: Variant,
        case: Case,
        measure: Measure = output_of,
        prepare: Callable[[Arguments, int], Arguments] = lambda arguments, seed: arguments,
        reference: Function | None = None,
        first: int | None = None,
    ) -> None:
        self.variant, self.case, self.measure, self.prepare = variant, case, measure, prepare
        self.reference = reference or variant.forward("reference").fn
        self.dtype = dtype_of(case.dtype)
        self.draws: list[_Draw] = []
        self.moments: dict[str, Moments] = {}
        self.lost: dict[str, int] = {}
        self.first, self.usual = first, _draws_of(variant, case)
        self._draw(min(first or self.usual, self.usual))

    def _draw(self, count: int) -> None:
        """Draw until there are so many."""
        for index in range(len(self.draws), count):
            seed = self.case.seed * MORE_SEEDS * JUMPING_ROWS + index
            arguments = arguments_for(self.variant, self.case, seed=seed)
            self._add(self.prepare(arguments, seed), seed)

    def _add(self, arguments: Arguments, seed: int) -> None:
        wide = arguments.to(torch.float64)
        oracle = self.measure(self.reference, wide, seed, 0.0)
        by = min(MOST_MOVED, unit_roundoff(self.dtype) * _amplitude(wide))
        moved = self.measure(self.reference, wide, seed, by)
        # float64 has no wider oracle: the reference's error there is that of float32, scaled.
        narrow = torch.float32 if self.dtype == torch.float64 else self.dtype
        scale = unit_roundoff(self.dtype) / unit_roundoff(narrow)
        own = self.measure(self.reference, arguments.to(narrow), seed, 0.0)
        judged = {}
        for name, exact in oracle.items():
            # Near the edge of the range an error of the reference's own size may carry beyond it.
            within = exact.isfinite() & (exact.abs() < torch.finfo(self.dtype).max / 2)
            judged[name] = fits = within & own[name].isfinite()
            self.lost[name] = self.lost.get(name, 0) + int((within & ~fits).sum())
            exact = exact.where(fits, 0.0)
            moments = self.moments.setdefault(name, Moments())
            moments.count_where(fits)
            moments.add("exact", exact, exact)
            moments.add("own", (own[name].double() - exact).where(fits, 0.0) * scale, exact)
            moments.add("moved", (moved[name] - exact).where(fits, 0.0), exact)
            moments.add("rounded", _rounding(exact, self.dtype), exact)
        self.draws.append(_Draw(seed, arguments, oracle, judged))

    def reference_loss(self) -> ReferenceLoss:
        """What the reference itself loses in this dtype, of the quantity of which it is most."""
        losses = [self._loss(name) for name in self.moments]
        return max(losses, key=lambda loss: loss.largest)

    def is_ill_conditioned(self) -> bool:
        """Whether rounding alone costs any method more than can be judged by in this dtype."""
        return any(
            self._unavoidable(name) > CEILING * moments.rms("exact")
            for name, moments in self.moments.items()
        )

    def is_below_range(self) -> bool:
        """Whether results are so small that this dtype has not all of its digits for them."""
        least = torch.finfo(self.dtype).smallest_normal
        return any(moments.rms("exact") < 8 * least for moments in self.moments.values())

    def judge(self, fn: Function) -> list[Errors]:
        """The errors of each quantity of ``fn``, the worst first."""
        errors = self._judge(fn)
        if self.first and errors[0].right:
            return errors
        if len(self.draws) < self.usual:
            self._draw(self.usual)
            errors = self._judge(fn)
        if NEAR_LIMIT[0] < errors[0].excess < NEAR_LIMIT[1]:
            before = len(self.draws)
            self._draw(MORE_SEEDS if self.first else max(MORE_SEEDS, _draws_of_rows(self.case)))
            errors = self._judge(fn) if len(self.draws) > before else errors
        return errors

    def budget(self, name: str) -> float:
        """What the RMS error of a quantity may be, once."""
        budget = self._uncapped(name)
        ceiling = CEILING * self.moments[name].rms("exact")
        return min(budget, ceiling) if self._is_known(name) else budget

    def _judge(self, fn: Function) -> list[Errors]:
        largest = dict.fromkeys(self.moments, 0.0)
        finite = dict.fromkeys(self.moments, True)
        found = {name: Moments() for name in self.moments}
        for draw in self.draws:
            # On copies: a forward that changes its arguments spoils them for itself alone.
            own = draw.arguments.map(torch.clone)
            quantities = self.measure(fn, own, draw.seed, 0.0)
            for name, exact in draw.oracle.items():
                _require_like(name, quantities[name], exact)
                fits = draw.judged[name]
                exact = exact.where(fits, 0.0)
                error = (quantities[name].double() - exact).where(fits, 0.0)
                finite[name] &= bool(error.isfinite().all())
                found[name].count_where(fits)
                found[name].add("error", error, exact)
                if error.numel():
                    largest[name] = max(largest[name], float(error.abs().max()))
        errors = [
            self._errors(name, moments, largest[name], finite[name])
            for name, moments in found.items()
        ]
        return sorted(errors, key=lambda error: -error.excess)

    def _errors(self, name: str, found: Moments, largest: float, finite: bool) -> Errors:
        slope, limit = 0.0, math.inf
        if finite and torch.finfo(self.dtype).bits == 16 and self._is_known(name):
            slope, limit = self._slope(name, found, "error"), self._slope_limit(name)
        return Errors(
            name=name,
            largest=largest,
            rms=found.rms("error"),
            budget=self.budget(name),
            finite=finite,
            slice=max(self._slices(name, found), key=lambda s: s.ratio, default=None),
            slope=slope,
            slope_limit=limit,
        )

    def _loss(self, name: str) -> ReferenceLoss:
        """The reference's own error, in units of what it should be.

        What no method can tell from zero is not held to its RMS, but to what rounding costs.
        """
        moments, lost = self.moments[name], self.lost[name]
        error = ratio_of(moments.rms("own"), moments.rms("exact"))
        if not self._is_known(name):
            error = CEILING * ratio_of(moments.rms("own"), LIMIT * self._unavoidable(name))
        return ReferenceLoss(name, self.case.dtype, error, lost / max(1, lost + moments.count))

    def _uncapped(self, name: str) -> float:
        own = self.moments[name].rms("own") if self._loss(name).is_tolerable else 0.0
        return own + self._unavoidable(name)

    def _unavoidable(self, name: str) -> float:
        """The RMS error of any method that rounds its inputs and its result once."""
        moments = self.moments[name]
        unavoidable = math.hypot(moments.rms("moved"), moments.rms("rounded"))
        # Of few draws moving shows too little of what cancels.
        cancels = self.first is not None and moments.rms("exact") <= unavoidable
        if not (self._is_zero(name) or cancels):
            return unavoidable
        # It has no size of its own, and what other ways to it leave may be enlarged by them, as by
        # 1/√ε in the layer norm of one feature: half of the digits must vanish.
        return max(unavoidable, math.sqrt(unit_roundoff(self.dtype)) * self._largest)

    def _is_zero(self, name: str) -> bool:
        """Whether it is zero by an identity, and moving the inputs does not show otherwise.

        As the gradient of a query that has one key. Of sums over as many rows float64 itself knows
        no more.
        """
        moments = self.moments[name]
        terms = moments.rows + max(other.features for other in self.moments.values())
        least = terms * unit_roundoff(torch.float64) * self._largest
        return max(moments.rms("exact"), moments.rms("moved")) <= least

    @property
    def _largest(self) -> float:
        """The RMS of the largest quantity."""
        return max(moments.rms("exact") for moments in self.moments.values())

    def _is_known(self, name: str) -> bool:
        """Whether any method can tell it from zero, in this dtype."""
        exact = self.moments[name].rms("exact")
        return exact > self._unavoidable(name) and not self._is_zero(name)

    def _slices(self, name: str, found: Moments) -> Iterator[Slice]:
        """The worst place along each dimension.

        A place where the quantity is zero by symmetry has no budget of its own, and errors all the
        same: none is held to less than the budget of the whole.
        """
        moments, tolerable = self.moments[name], self._loss(name).is_tolerable
        budget, uncapped = self.budget(name), self._uncapped(name)
        for dim, counts in enumerate(moments.counts):
            # With few draws whole rows must be many: the elements of one share an error.
            judged = counts >= SLICE_ELEMENTS * (moments.features if self.first else 1)
            if len(counts) < 2 or not bool(judged.any()):
                continue
            moved, rounded = (moments.rms_along(sort, dim) for sort in ("moved", "rounded"))
            budgets = torch.hypot(moved, rounded)
            if tolerable:
                budgets += moments.rms_along("own", dim)
            budgets = (budgets * ratio_of(budget, uncapped)).clamp(min=budget)
            errors = found.rms_along("error", dim)
            ratios = torch.where(judged & (errors > 0), errors / budgets, 0.0)
            index = int(ratios.argmax())
            yield Slice(dim, index, float(ratios[index]))

    def _slope(self, name: str, found: Moments, sort: str) -> float:
        """Of a difference on what is exact."""
        return ratio_of(found.products[sort], self.moments[name].totals["exact"])

    def _slope_limit(self, name: str) -> float:
        """Rounding has no direction: 2 u, twice what the reference is off, and chance."""
        moments = self.moments[name]  # of what is known, and so not zero
        own = abs(self._slope(name, moments, "own")) if self._loss(name).is_tolerable else 0.0
        chance = self.budget(name) / (moments.rms("exact") * math.sqrt(max(1, moments.rows)))
        return 2 * unit_roundoff(self.dtype) + 2 * own + SLOPE_ERRORS * chance


def _rounding(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What rounding to nearest costs at most; below the least normal number that is no share."""
    least = exact.abs().clamp(min=torch.finfo(dtype).tiny).where(exact != 0, 0.0)
    return least * unit_roundoff(dtype)


def _amplitude(arguments: Arguments) -> float:
    """How far beyond 1 exponents may be: the RMS size of the largest data, and a scale's share."""
    sizes = [float(t.square().mean().sqrt()) for t in arguments.data.values() if t.numel()]
    scale = arguments.plain.get("scale")
    if scale is None or not sizes:
        return max(1.0, *sizes)
    # Where it is 0, moving q and k shows nothing of what it costs to add up equal weights.
    q, k = arguments.data["q"], arguments.data["k"]
    usual = abs(scale) * math.sqrt(q.shape[-1]) if scale else math.sqrt(k.shape[2])
    return max(1.0, *sizes, max(sizes) * usual)


def moved(arguments: Arguments, by: float, seed: int) -> Arguments:
    """Every number moved up or down by ``by`` times its size."""
    if not by:
        return arguments
    return arguments.map(_mover(by, seed + 1))


def move_gradients(output: torch.Tensor, by: float, seed: int) -> None:
    """Make the backward of ``output`` move every gradient between two operations likewise."""
    move = _mover(by, seed + 2)

    def before(gradients: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...]:
        return tuple(None if g is None else move(g) for g in gradients)

    nodes, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            node.register_prehook(before)
            ahead += [following for following, _ in node.next_functions]


def _mover(by: float, seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def move(tensor: torch.Tensor) -> torch.Tensor:
        signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
        return tensor * (1 + by * signs.to(tensor))

    return move


def _require_like(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    if found.shape != expected.shape:
        raise ValueError(
            f"{name} has the shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
        )
