"""Probes of activations that take each element by itself: tiny and large x, and no numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bakeoff.suites.records import Status
from bakeoff.suites.slopes import lines, slopes_along, values_along
from bakeoff.suites.tensors import Arguments, dtype_of, unit_roundoff
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict

__all__ = ["relative_accuracy", "special_values"]

#: Where relative accuracy is looked at, on both sides of zero: out to where float16 holds a cube.
GRID = (1e-4, 1e-3, 0.01, 0.1, 0.3, 0.7, 1.3, 2.2, 3.1, 4.3, 5.7, 7.9, 11.0, 16.0, 24.0, 30.0)
#: Roundings, each of relative size u, that a formula of an activation may be made of.
ROUNDINGS = 16
#: What is this much smaller than the largest number must not overflow: torch's own hard swish
#: multiplies by 6 first.
LEAVES = 16


def relative_accuracy(subject: Subject) -> Verdict:
    """For tiny and large x output and slope are off by a few roundings, not by what cancels.

    A few operations, each rounded, give f(x (1 + d)) (1 + e) with d and e of a few u: an error of
    u (|f| + |x f'|), and in the slope of u (|f'| + |x f''|). What cancels loses more. An error of
    u |x|, of u where f(0) is not 0, and of u in the slope, passes as well: 1 + erf has it where it
    vanishes, in torch's own GELU too. How much of the output itself is lost is the value, in units
    of the first bound.
    """
    if subject.dtype == "float64":
        raise Unsupported("nothing wider is at hand to hold float64 to")
    dtype = dtype_of(subject.dtype)
    unit = ROUNDINGS * unit_roundoff(dtype)
    sides = torch.tensor([0.0, *(s * x for x in GRID for s in (1, -1))], dtype=torch.float64)
    places = sides.to(dtype).double()
    worst, at = 0.0, 0.0
    for told, rows, moving in lines(subject, places):
        exact, cast = _exact(subject, rows, moving), rows.to(dtype)
        value = values_along(subject, cast).double()
        # Below the least normal number digits are lost one by one.
        bound = unit * (exact.f.abs() + (places * exact.slope).abs()) + _least(dtype)
        size = places.abs() + (exact.f[0] != 0)  # the first is at zero
        checks = [("the output", value, exact.f, bound + unit * size)]
        if subject.forward.backward and subject.variant.declared("differentiable", True):
            slope = slopes_along(subject, cast, moving).double()
            limit = unit * (1 + exact.slope.abs() + (places * exact.bend).abs()) + _least(dtype)
            limit[0] = torch.inf  # at zero most pieces meet: slope_at_kinks judges there
            checks.append(("the slope", slope, exact.slope, limit))
        fits = exact.f.abs() < torch.finfo(dtype).max / 2  # false for what is no number
        for name, found, right, limit in checks:
            excess = torch.where(fits & limit.isfinite(), (found - right).abs() / limit, 0.0)
            excess = excess.nan_to_num(torch.inf)
            i = int(excess.argmax())
            if excess[i] > 1:
                reason = (
                    f"{told} = {float(places[i]):.3g}: {name} is {float(found[i]):.6g}, expected "
                    f"{float(right[i]):.6g} ± {float(limit[i]):.2g}"
                )
                return Verdict(Status.WRONG, float(excess[i]), reason)
        lost = torch.where(fits, (value - exact.f).abs() / bound, 0.0)
        if float(lost.max()) > worst:
            worst, at = float(lost.max()), float(places[int(lost.argmax())])
    return Verdict(Status.OK, worst, f"of the output most is lost at {at:.3g}" if worst > 1 else "")


def special_values(subject: Subject) -> Verdict:
    """No finite x gives a NaN, nor an infinity where float64 gives a number.

    Out to where a square has its place in the dtype: many formulas have one. A NaN should stay
    one, which is told and not judged: many are written with torch.where.
    """
    dtype = dtype_of(subject.dtype)
    info = torch.finfo(dtype)
    largest = math.sqrt(info.max / LEAVES)
    sizes = (0.0, info.smallest_normal / 4, info.smallest_normal, largest)
    remark = ""
    places = torch.tensor(
        [torch.nan, *(sign * x for x in sizes for sign in (1, -1))], dtype=torch.float64
    )
    for told, rows, _ in lines(subject, places):
        exact = values_along(_in_float64(subject), rows)
        found = values_along(subject, rows.to(dtype)).double()
        if not bool(found[0].isnan()):
            remark = f"{told} = nan gives {float(found[0]):g}"
        bad = found.isnan() | (found.isinf() & (exact.abs() < info.max / 2))
        bad[0] = False
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            # Near its end float16 is left by some orders of operations, and not by others.
            ends = subject.dtype == "float16" and subject.name == "reference"
            status = Status.UNDETERMINED if ends else Status.WRONG
            what = f"{told} = {float(places[i]):.6g} gives {float(found[i]):g}, {float(exact[i]):g}"
            return Verdict(status, float(places[i]), f"{what} in float64")
    return Verdict(Status.OK, reason=remark)


@dataclass(frozen=True)
class _Exact:
    """f, its slope and the slope of that, of the reference in float64."""

    f: torch.Tensor
    slope: torch.Tensor
    bend: torch.Tensor


def _in_float64(subject: Subject) -> Subject:
    return Subject(subject.variant, "reference", "float64", subject.device, subject.seed)


def _exact(subject: Subject, rows: Arguments, moving: slice) -> _Exact:
    leaves = rows.requiring_grad()
    f = leaves.call(subject.variant.forward("reference").fn)[:, 0]
    x = leaves.data["x"]
    slope = _along(f, x, moving)
    bend = _along(slope, x, moving)
    return _Exact(f.detach(), slope.detach(), bend.detach())


def _along(f: torch.Tensor, x: torch.Tensor, moving: slice) -> torch.Tensor:
    if not f.requires_grad:
        return torch.zeros_like(f)
    (found,) = torch.autograd.grad(f.sum(), x, create_graph=True, allow_unused=True)
    return torch.zeros_like(f) if found is None else found[:, moving].sum(-1)


def _least(dtype: torch.dtype) -> float:
    """A few times the distance of the smallest numbers."""
    return ROUNDINGS * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
