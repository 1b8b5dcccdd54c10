"""Error budgets: how far a result may be from the float64 reference, derived and not tuned.

The budget of a quantity is the RMS error of the reference, run in the dtype at hand, plus u times
the RMS of the absolute terms that make up the quantity, u the unit roundoff. The second part is
what rounding each input once, and the result once, costs any method: it is found by moving every
input by ±u of its size and looking at what moves; for gradients, every gradient that one operation
of the reference hands to the next is moved too, since any backward must round what it hands on. (A
gradient that is a sum of cancelling terms is known no better than that: the key bias of an
attention has a gradient of exactly zero, whatever the inputs, and no method finds it.) Where the
inputs are larger than 1 they are moved that much further, for then the exponents within are larger
than 1 too, and a method that computes exp(s − log Σ exp s), as every fused attention does, rounds
s by u·|s|. ``error_ratio`` is RMS error ÷ budget, over all elements of several seeds; up to
:data:`LIMIT` it passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.tensors import Arguments, arguments_for, dtype_of, unit_roundoff

__all__ = ["LIMIT", "SEEDS", "Errors", "Oracle", "gradients_of", "output_of"]

#: A result is wrong when its error is more than this many budgets.
LIMIT = 2.0
#: Draws that are pooled: with fewer, the largest of a few errors decides.
SEEDS = 8
#: Queries that are pooled at least for a variant that is not continuous.
JUMPING_ROWS = 1024

Quantities = Mapping[str, torch.Tensor]
Function = Callable[..., torch.Tensor]
#: ``(function, arguments, seed, by)``: its quantities, with everything moved by ±``by``.
Measure = Callable[[Function, Arguments, int, float], Quantities]


def output_of(fn: Function, arguments: Arguments, seed: int, by: float = 0.0) -> Quantities:
    """The output, as the only quantity."""
    with torch.no_grad():
        return {"output": _moved(arguments, by, seed).call(fn)}


def gradients_of(fn: Function, arguments: Arguments, seed: int, by: float = 0.0) -> Quantities:
    """The gradient of every leaf, of the output's product with a random tensor of ±1.

    Signs are exact in every dtype, so the direction adds no error of its own.
    """
    leaves = _moved(arguments, by, seed).requiring_grad()
    output = leaves.call(fn)
    if by:
        _move_gradients(output, by, seed)
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
class Errors:
    """How far a quantity is from the oracle.

    Args:
        name: The quantity: ``"output"``, or the leaf whose gradient it is.
        largest: The largest absolute error.
        rms: The root of the mean square error.
        budget: What it may be, once.
        finite: Whether it is finite wherever the oracle and the reference are.
    """

    name: str
    largest: float
    rms: float
    budget: float
    finite: bool

    @property
    def ratio(self) -> float:
        """RMS error in budgets."""
        if not self.finite:
            return math.inf
        if self.budget == 0:
            return 0.0 if self.rms == 0 else math.inf
        return self.rms / self.budget

    @property
    def right(self) -> bool:
        """Whether it stays within :data:`LIMIT` budgets."""
        return self.ratio <= LIMIT

    def explain(self) -> str:
        """What was got and what was expected."""
        what = "the output" if self.name == "output" else f"the gradient of {self.name}"
        if not self.finite:
            return f"{what} is not finite where the reference is"
        return (
            f"{what} has an RMS error of {self.rms:.3g}, expected at most {LIMIT:g} × "
            f"{self.budget:.3g} (largest error {self.largest:.3g})"
        )


@dataclass
class _Sums:
    """Sums of squares over elements and seeds."""

    count: int = 0
    squares: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, difference: torch.Tensor) -> None:
        self.squares[name] = self.squares.get(name, 0.0) + float(difference.square().sum())

    def rms(self, name: str) -> float:
        return math.sqrt(self.squares.get(name, 0.0) / max(1, self.count))


def _draws_of(variant: Variant, case: Case) -> int:
    """How many seeds are pooled: :data:`SEEDS`, and more for few rows of what jumps.

    A choice, as of one key, jumps where rounding turns a near tie; with few queries the budget may
    see no jump where a right forward has one.
    """
    if variant.declared("differentiable", True) or not isinstance(case.shape, Shape):
        return SEEDS
    rows = case.shape.batch * case.shape.heads * case.shape.q_len
    return max(SEEDS, math.ceil(JUMPING_ROWS / rows))


class Oracle:
    """The float64 reference of one case, with the budget of every quantity.

    Args:
        variant: Whose ``reference`` it is.
        case: The case; the oracle sees the inputs after rounding to its dtype.
        measure: :func:`output_of` or :func:`gradients_of`.
        prepare: Changes the arguments of a draw (a mask, say), given them and the seed.
        reference: The function, if it is not the variant's reference.
    """

    def __init__(
        self,
        variant: Variant,
        case: Case,
        measure: Measure = output_of,
        prepare: Callable[[Arguments, int], Arguments] = lambda arguments, seed: arguments,
        reference: Function | None = None,
    ) -> None:
        self.case, self.measure = case, measure
        self.reference = reference or variant.forward("reference").fn
        self.dtype = dtype_of(case.dtype)
        self.draws: list[tuple[int, Arguments, Quantities]] = []
        self.sums: dict[str, _Sums] = {}
        self.usable: list[dict[str, torch.Tensor]] = []
        draws = _draws_of(variant, case)
        for seed in range(case.seed * draws, (case.seed + 1) * draws):
            self._draw(prepare(arguments_for(variant, case, seed=seed), seed), seed)

    def _draw(self, arguments: Arguments, seed: int) -> None:
        wide = arguments.to(torch.float64)
        oracle = self.measure(self.reference, wide, seed, 0.0)
        by = unit_roundoff(self.dtype) * _amplitude(wide)
        moved = self.measure(self.reference, wide, seed, by)
        # float64 has no wider oracle: the reference's error there is that of float32, scaled.
        narrow = torch.float32 if self.dtype == torch.float64 else self.dtype
        scale = unit_roundoff(self.dtype) / unit_roundoff(narrow)
        own = self.measure(self.reference, arguments.to(narrow), seed, 0.0)
        usable = {}
        for name, exact in oracle.items():
            sums = self.sums.setdefault(name, _Sums())
            fits = exact.isfinite() & own[name].isfinite()
            # Near the edge of the range an error of the reference's own size may carry beyond it.
            fits &= exact.abs() < torch.finfo(self.dtype).max / 2
            usable[name] = fits
            sums.count += int(fits.sum())
            sums.add("reference", (own[name].double() - exact)[fits] * scale)
            sums.add("moved", (moved[name] - exact)[fits])
            sums.add("rounded", exact[fits] * unit_roundoff(self.dtype))
        self.draws.append((seed, arguments, oracle))
        self.usable.append(usable)

    def judge(self, fn: Function) -> list[Errors]:
        """The errors of each quantity of ``fn``, the worst ratio first."""
        largest = dict.fromkeys(self.sums, 0.0)
        finite = dict.fromkeys(self.sums, True)
        totals = {name: _Sums(sums.count) for name, sums in self.sums.items()}
        for (seed, arguments, oracle), usable in zip(self.draws, self.usable, strict=True):
            found = self.measure(fn, arguments, seed, 0.0)
            for name, exact in oracle.items():
                _require_like(name, found[name], exact)
                error = (found[name].double() - exact)[usable[name]]
                finite[name] &= bool(error.isfinite().all())
                totals[name].add("error", error)
                if error.numel():
                    largest[name] = max(largest[name], float(error.abs().max()))
        errors = [
            Errors(name, largest[name], totals[name].rms("error"), self.budget(name), finite[name])
            for name in self.sums
        ]
        return sorted(errors, key=lambda error: -error.ratio)

    def budget(self, name: str) -> float:
        """What the RMS error of a quantity may be, once."""
        sums = self.sums[name]
        return sums.rms("reference") + math.hypot(sums.rms("moved"), sums.rms("rounded"))


def _amplitude(arguments: Arguments) -> float:
    """The RMS size of the largest data, at least 1."""
    return max(1.0, *(float(t.square().mean().sqrt()) for t in arguments.data.values()))


def _moved(arguments: Arguments, by: float, seed: int) -> Arguments:
    """Every number moved up or down by ``by`` times its size."""
    if not by:
        return arguments
    return arguments.map(_mover(by, seed + 1))


def _move_gradients(output: torch.Tensor, by: float, seed: int) -> None:
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
