"""Declared properties, measured. A counterexample is a failure of the variant.

Each measure is a function of a :class:`Subject` that returns the property's value as it is found
on the float64 reference, with an example that shows it; the value is compared with what the
metadata declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bakeoff.suites.records import Status
from bakeoff.suites.relations import mixes_queries, relative
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Verdict

__all__ = ["MEASURES", "Found", "measured"]

#: How near the measured extremes must come to a declared finite range, relative to 1 + |bound|.
NEAR = 1e-3
#: What counts as unbounded, on inputs up to a million.
UNBOUNDED = 300.0


@dataclass(frozen=True)
class Found:
    """A property as it was found.

    Args:
        value: Its value.
        example: Where it shows, with the numbers; empty where nothing speaks against it.
    """

    value: Any
    example: str = ""


def measured(subject: Subject, name: str) -> Verdict:
    """Compare what is declared under ``name`` with what is found."""
    declared = subject.variant.declared(name)
    found = MEASURES[name](subject)
    same = _same_range(declared, found.value) if name == "range" else declared == found.value
    value = float(found.value) if isinstance(found.value, bool) else None
    if same:
        return Verdict(Status.OK, value)
    reason = f"declared {_shown(declared)}, measured {_shown(found.value)}"
    return Verdict(Status.WRONG, value, ": ".join(filter(None, (reason, found.example))))


def _elementwise(subject: Subject) -> Found:
    """y_i depends on x_i alone."""
    arguments = subject.arguments()
    x = arguments.data["x"].clone()
    before = subject.output(arguments)
    if before.shape != x.shape:
        return Found(False, f"x is {tuple(x.shape)}, y is {tuple(before.shape)}")
    x[..., 0] += 1.5
    after = subject.output(arguments.replacing({"x": x}))
    same = torch.equal(after[..., 1:], before[..., 1:])
    if same:
        return Found(True)
    place = _farthest((after - before)[..., 1:])
    place = (*place[:-1], place[-1] + 1)
    moved = f"y{list(place)} from {_at(before, place)} to {_at(after, place)}"
    return Found(False, f"x{[*place[:-1], 0]} + 1.5 moves {moved}")


def _monotonic(subject: Subject) -> Found:
    """Non-decreasing, up to rounding."""
    x, y = _curve(subject, _wide_grid())
    order = x.argsort()
    x, y = x[order], y[order]
    falls = -y.diff() - 1e-12 * (1 + y[1:].abs())
    if not bool((falls > 0).any()):  # a NaN is no fall: other checks see it
        return Found(bool((falls <= 0).all()))
    i = int(falls.nan_to_num(nan=-torch.inf).argmax())
    return Found(False, f"φ({x[i]:.6g}) = {y[i]:.6g}, φ({x[i + 1]:.6g}) = {y[i + 1]:.6g}")


def _smooth(subject: Subject) -> Found:
    """The slope has no jump: where it changes most, it changes less on a finer grid."""
    coarse = 1e-2
    x = torch.arange(-10.0, 10.0, coarse, dtype=torch.float64) + coarse / 3
    jumps = _slopes(subject, x).diff().abs()
    if float(jumps.max()) < 1e-9:
        return Found(True)
    worst = jumps.argsort(descending=True)[:50]
    worst = worst[jumps[worst] > 1e-9]
    # Each suspected interval again, with a hundred points: a kink keeps its jump.
    inside = torch.linspace(0, 1, 101, dtype=torch.float64)
    fine = x[worst, None] + coarse * inside
    slopes = _slopes(subject, fine.reshape(-1)).reshape(fine.shape)
    finest, at = slopes.diff(dim=-1).abs().max(-1)
    kinks = ~(finest < 0.2 * jumps[worst])
    if not bool(kinks.any()):
        return Found(True)
    i = int(kinks.nonzero()[0])
    j = int(at[i])
    ends = (f"φ′({fine[i, k]:.6g}) = {slopes[i, k]:.6g}" for k in (j, j + 1))
    return Found(False, ", ".join(ends))


def _range(subject: Subject) -> Found:
    """The least and the largest output seen, on inputs of every size."""
    example = ""
    if _elementwise(subject).value:
        x, y = _curve(subject, _wide_grid())
        ends = (int(y.argmin()), int(y.argmax()))
        example = " and ".join(f"φ({x[i]:.6g}) = {y[i]:.6g}" for i in ends)
    else:
        generator = torch.Generator().manual_seed(subject.seed)
        sizes = torch.logspace(-1, 6, 400, dtype=torch.float64)[:, None, None]
        normal = torch.randn(400, 20, 24, generator=generator, dtype=torch.float64)
        arguments = subject.arguments()
        y = subject.output(arguments.replacing({"x": normal * sizes}))
    return Found((float(y.min()), float(y.max())), example)


def _zero_centred(subject: Subject) -> Found:
    """E[φ(z)] = 0 for z ~ N(0, 1), by the trapezoid rule."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    _, y = _curve(subject, z)
    weight = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    mean = float(torch.trapezoid(y * weight, z))
    size = math.sqrt(float(torch.trapezoid(y.square() * weight, z)))
    return Found(abs(mean) <= 1e-6 * size, f"E[φ(z)] = {mean:.6g} for z ~ N(0, 1)")


def _row_stochastic(subject: Subject) -> Found:
    """The output is a convex combination of the rows of v."""
    arguments = subject.arguments()
    v = arguments.data["v"]
    output = subject.output(arguments)

    def with_values(values: torch.Tensor) -> torch.Tensor:
        return subject.output(arguments.replacing({"v": values}))

    slack = 10 * subject.slack(v)
    shared = v.repeat_interleave(output.shape[1] // v.shape[1], 1)  # by heads of one group
    low, high = shared.amin(2, keepdim=True), shared.amax(2, keepdim=True)
    expected = {
        "o with v + 1": (with_values(v + 1), output + 1),
        "o with 2 v": (with_values(2 * v), 2 * output),
        "o beside the values of v": (output, output.clamp(low, high)),
    }
    for what, (got, wanted) in expected.items():
        away = (got - wanted).abs()
        if not bool((away <= slack).all()):
            place = _farthest(away)
            told = f"{what}: o{list(place)}: got {_at(got, place)}, expected {_at(wanted, place)}"
            return Found(False, told)
    return Found(True)


def _stochastic(subject: Subject) -> Found:
    """It draws noise when training."""
    drawn = [n for n in subject.arguments(direction="training").fixed if n not in _buffers(subject)]
    return Found(bool(drawn), f"noise returns {', '.join(drawn) or 'nothing'}")


def _identity_path(subject: Subject) -> Found:
    """A branch that returns zero gives back x, whatever is learned."""
    arguments = subject.arguments().off_start(subject.seed)
    assert arguments.branch is not None
    still = arguments.replacing({"branch": torch.zeros_like(arguments.branch)})
    x, y = arguments.data["x"], subject.output(still)
    if torch.equal(y, x):
        return Found(True)
    place = _farthest(y - x)
    told = f"with a branch of zeros x{list(place)} = {_at(x, place)}, y{list(place)} = "
    return Found(False, told + _at(y, place))


def _mixes_queries(subject: Subject) -> Found:
    """Without causality an output depends on other queries too."""
    return Found(mixes_queries(subject))


def _relative(subject: Subject) -> Found:
    """Only distances count: behind some places that are hidden a sequence gives the same."""
    return Found(relative(subject))


#: How each property is measured. Three are seen elsewhere: ``patterns`` in the error cells, which
#: run every pattern, ``differentiable`` in the gradient suite's gradcheck, and ``branch_calls`` in
#: the probe :func:`bakeoff.suites.branches.branch_called`.
MEASURES: Mapping[str, Callable[[Subject], Found]] = {
    "elementwise": _elementwise,
    "monotonic": _monotonic,
    "smooth": _smooth,
    "range": _range,
    "zero_centred": _zero_centred,
    "row_stochastic": _row_stochastic,
    "mixes_queries": _mixes_queries,
    "relative": _relative,
    "stochastic": _stochastic,
    "identity_path": _identity_path,
}


def _farthest(away: torch.Tensor) -> tuple[int, ...]:
    """The place of the largest absolute value; that of a NaN where there is one."""
    flat = away.abs().nan_to_num(nan=torch.inf).argmax()
    return tuple(int(i) for i in torch.unravel_index(flat, away.shape))


def _at(tensor: torch.Tensor, place: tuple[int, ...]) -> str:
    return f"{float(tensor[place]):.6g}"


def _buffers(subject: Subject) -> set[str]:
    """What is fixed also when nothing is drawn."""
    fixed = subject.arguments(direction="forward").fixed
    return {name for name, tensor in fixed.items() if tensor is not None}


def _wide_grid() -> torch.Tensor:
    """Fine about zero, and out to a million on both sides."""
    near = torch.arange(-12.0, 12.0, 1e-3, dtype=torch.float64)
    far = torch.logspace(1, 6, 200, dtype=torch.float64)
    return torch.cat([near, far, -far])


def _with_input(arguments: Arguments, x: torch.Tensor) -> Arguments:
    """Every point of ``x`` in the first feature; the others, which don't matter, are zero."""
    features = arguments.data["x"].shape[-1]
    rows = torch.zeros(x.numel(), features, dtype=x.dtype)
    return arguments.replacing({"x": torch.cat([x[:, None], rows[:, 1:]], -1)})


def _curve(subject: Subject, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x, subject.output(_with_input(subject.arguments(), x))[..., 0]


def _slopes(subject: Subject, x: torch.Tensor) -> torch.Tensor:
    arguments = _with_input(subject.arguments(), x).requiring_grad()
    output = arguments.call(subject.forward.fn)[..., 0]
    return torch.autograd.grad(output.sum(), arguments.data["x"])[0][:, 0]


def _same_range(declared: tuple[float, float], found: tuple[float, float]) -> bool:
    """Every output lies within what is declared, and comes near to both ends."""
    for bound, extreme, sign in zip(declared, found, (-1, 1), strict=True):
        if math.isinf(bound):
            if sign * extreme < UNBOUNDED:
                return False
        elif sign * (extreme - bound) > 1e-9 * (1 + abs(bound)) or abs(extreme - bound) > NEAR * (
            1 + abs(bound)
        ):
            return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in value) + ")"
    return str(value)
