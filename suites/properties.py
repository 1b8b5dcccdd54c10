"""Declared properties, measured. A counterexample is a failure of the variant.

Each measure is a function of a :class:`Subject` that returns the property's value as it is found
on the float64 reference; it is compared with what the metadata declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Verdict

__all__ = ["MEASURES", "measured"]

#: How near the measured extremes must come to a declared finite range, relative to 1 + |bound|.
NEAR = 1e-3
#: What counts as unbounded, on inputs up to a million.
UNBOUNDED = 300.0


def measured(subject: Subject, name: str) -> Verdict:
    """Compare what is declared under ``name`` with what is found."""
    declared = subject.variant.declared(name)
    found = MEASURES[name](subject)
    holds = _same_range(declared, found) if name == "range" else declared == found
    value = float(found) if isinstance(found, bool) else None
    if holds:
        return Verdict(Status.OK, value)
    return Verdict(Status.WRONG, value, f"declared {_shown(declared)}, measured {_shown(found)}")


def _elementwise(subject: Subject) -> bool:
    """y_i depends on x_i alone."""
    arguments = subject.arguments()
    x = arguments.data["x"].clone()
    before = subject.output(arguments)
    if before.shape != x.shape:
        return False
    x[..., 0] += 1.5
    after = subject.output(arguments.replacing({"x": x}))
    return torch.equal(after[..., 1:], before[..., 1:])


def _monotonic(subject: Subject) -> bool:
    """Non-decreasing, up to rounding."""
    x, y = _curve(subject, _wide_grid())
    order = x.argsort()
    steps = y[order].diff()
    return bool((steps >= -1e-12 * (1 + y[order][1:].abs())).all())


def _smooth(subject: Subject) -> bool:
    """The slope has no jump: where it changes most, it changes less on a finer grid."""
    coarse = 1e-2
    x = torch.arange(-10.0, 10.0, coarse, dtype=torch.float64) + coarse / 3
    jumps = _slopes(subject, x).diff().abs()
    if float(jumps.max()) < 1e-9:
        return True
    worst = jumps.argsort(descending=True)[:50]
    worst = worst[jumps[worst] > 1e-9]
    # Each suspected interval again, with a hundred points: a kink keeps its jump.
    inside = torch.linspace(0, 1, 101, dtype=torch.float64)
    fine = x[worst, None] + coarse * inside
    finest = _slopes(subject, fine.reshape(-1)).reshape(fine.shape).diff(dim=-1).abs().amax(-1)
    return bool((finest < 0.2 * jumps[worst]).all())


def _range(subject: Subject) -> tuple[float, float]:
    """The least and the largest output seen, on inputs of every size."""
    if _elementwise(subject):
        _, y = _curve(subject, _wide_grid())
    else:
        generator = torch.Generator().manual_seed(subject.seed)
        sizes = torch.logspace(-1, 6, 400, dtype=torch.float64)[:, None, None]
        normal = torch.randn(400, 20, 24, generator=generator, dtype=torch.float64)
        arguments = subject.arguments()
        y = subject.output(arguments.replacing({"x": normal * sizes}))
    return float(y.min()), float(y.max())


def _zero_centred(subject: Subject) -> bool:
    """E[φ(z)] = 0 for z ~ N(0, 1), by the trapezoid rule."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    _, y = _curve(subject, z)
    weight = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    mean = float(torch.trapezoid(y * weight, z))
    size = math.sqrt(float(torch.trapezoid(y.square() * weight, z)))
    return abs(mean) <= 1e-6 * size


def _row_stochastic(subject: Subject) -> bool:
    """The output is a convex combination of the rows of v."""
    arguments = subject.arguments()
    v = arguments.data["v"]
    output = subject.output(arguments)

    def with_values(values: torch.Tensor) -> torch.Tensor:
        return subject.output(arguments.replacing({"v": values}))

    slack = 10 * subject.slack(v)
    shifts = bool(((with_values(v + 1) - output - 1).abs() <= slack).all())
    scales = bool(((with_values(2 * v) - 2 * output).abs() <= slack).all())
    low, high = v.amin(2, keepdim=True), v.amax(2, keepdim=True)
    within = bool(((output >= low - slack) & (output <= high + slack)).all())
    return shifts and scales and within


def _stochastic(subject: Subject) -> bool:
    """It draws noise when training."""
    return any(
        name not in _buffers(subject) for name in subject.arguments(direction="training").fixed
    )


def _identity_path(subject: Subject) -> bool:
    """A branch that returns zero gives back x, whatever is learned."""
    arguments = subject.arguments().off_start(subject.seed)
    assert arguments.branch is not None
    still = arguments.replacing({"branch": torch.zeros_like(arguments.branch)})
    return torch.equal(subject.output(still), arguments.data["x"])


#: How each property is measured. Three are seen elsewhere: ``patterns`` in the error cells, which
#: run every pattern, ``differentiable`` in the gradient suite's gradcheck, and ``branch_calls`` in
#: the probe :func:`bakeoff.suites.branches.branch_called`.
MEASURES: Mapping[str, Callable[[Subject], Any]] = {
    "elementwise": _elementwise,
    "monotonic": _monotonic,
    "smooth": _smooth,
    "range": _range,
    "zero_centred": _zero_centred,
    "row_stochastic": _row_stochastic,
    "stochastic": _stochastic,
    "identity_path": _identity_path,
}


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
