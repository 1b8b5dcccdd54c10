"""Whether the slope of an activation at a single place is one that it has there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments, why_not
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict

__all__ = ["lines", "slope_at_kinks", "slopes_along", "values_along"]

#: Where pieces meet in nearly all activations that are made of pieces.
PLACES = torch.cat([torch.arange(-10.0, 11.0), torch.tensor([-0.5, 0.5])]).double()
#: How far to both sides differences are taken; what a curved function differs by between them.
STEP, TOLERANCE = 1e-6, 1e-4


def slope_at_kinks(subject: Subject) -> Verdict:
    """Where pieces meet, the slope is that of both sides; where those differ, it is finite."""
    if not subject.forward.backward:
        raise Unsupported("this forward declares that it has no backward")
    if not subject.variant.declared("differentiable", True):
        raise Unsupported("the variant declares that its backward is not the derivative")
    case = replace(subject.case("", "training"), dtype="float64")
    if reason := why_not(subject.variant, subject.name, case):
        raise Unsupported(reason)
    for told, rows, moving in lines(subject, PLACES):
        found = slopes_along(subject, rows, moving)
        middle = values_along(subject, rows)
        left = (middle - values_along(subject, _moved(rows, moving, -STEP))) / STEP
        right = (values_along(subject, _moved(rows, moving, STEP)) - middle) / STEP
        slack = TOLERANCE * (1 + left.abs())
        # At a kink the rules of differentiation may give what is no slope of either side:
        # relu(x) - a relu(-x) has 0 at 0 (Bolte and Pauwels, 2021).
        kink = (left - right).abs() > slack
        good = torch.where(kink, found.isfinite(), (found - left).abs() <= 2 * slack)
        if bool((middle.isfinite() & ~good).any()):
            at = int((middle.isfinite() & ~good).nonzero()[0])
            return Verdict(
                Status.WRONG,
                float(PLACES[at]),
                f"at {told} = {float(PLACES[at]):g} the slope is {float(found[at]):.6g}, expected "
                f"{float(left[at]):.6g} (from below) or {float(right[at]):.6g} (from above)",
            )
    return Verdict(Status.OK)


def lines(subject: Subject, places: torch.Tensor) -> Iterator[tuple[str, Arguments, slice]]:
    """Arguments with a row for each place, and which of the features move along it.

    All features of an elementwise activation; of a gated one each half in turn, the other at 1.

    Raises:
        Unsupported: Where an activation mixes its features: there is no single line.
    """
    arguments = subject.arguments().to(torch.float64)
    features = arguments.data["x"].shape[-1]
    if getattr(subject.variant, "gated", False):
        half = features // 2
        for told, moving in (
            ("the first half", slice(0, half)),
            ("the second half", slice(half, None)),
        ):
            rows = torch.ones(len(places), features, dtype=torch.float64)
            rows[:, moving] = places[:, None]
            yield told, arguments.replacing({"x": rows}), moving
        return
    if not subject.variant.declared("elementwise", False):
        raise Unsupported("it does not declare that it is elementwise")
    rows = places[:, None].expand(-1, features).clone()
    yield "x", arguments.replacing({"x": rows}), slice(0, 1)


def _moved(arguments: Arguments, moving: slice, step: float) -> Arguments:
    x = arguments.data["x"].clone()
    x[:, moving] += step
    return arguments.replacing({"x": x})


def values_along(subject: Subject, arguments: Arguments) -> torch.Tensor:
    """Of each row the first output."""
    return subject.output(arguments)[:, 0]


def slopes_along(subject: Subject, arguments: Arguments, moving: slice) -> torch.Tensor:
    """Of each row's first output, along what moves."""
    leaves = arguments.requiring_grad()
    output = leaves.call(subject.forward.fn)[:, 0]
    if not output.requires_grad:
        return torch.zeros_like(output)
    (found,) = torch.autograd.grad(output.sum(), leaves.data["x"])
    return found[:, moving].sum(-1)
