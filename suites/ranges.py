"""Probes of inputs that are large, or far on one side."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bakeoff.suites.budget import Oracle, Quantities, gradients_of, output_of
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, agreement

__all__ = ["extreme", "far_from_zero", "large_scores"]

#: The size of extreme inputs; float16 ends at 65504.
EXTREME = {"float16": 30.0}
EXTREME_DEFAULT = 1e3
#: Means of inputs, far on both sides.
MEANS = (-20.0, -8.0, 8.0, 20.0)
#: By what queries grow until the scores of normal ones reach beyond 100, and beyond 10⁴.
GROWTH = (30.0, 3000.0)
#: Draws where a fault shows in every row.
FEW_DRAWS = 2

Prepare = Callable[[Arguments, int], Arguments]


def extreme(subject: Subject) -> Verdict:
    """Large inputs, and zeros: no NaN, and finite in outputs and gradients where float64 is."""
    large = EXTREME.get(subject.dtype, EXTREME_DEFAULT)
    for size in (large, 0.0):
        if verdict := _not_finite(subject, size):
            return verdict
    return Verdict(Status.OK, large)


def _not_finite(subject: Subject, size: float) -> Verdict | None:
    """What is not finite with inputs of this size; None where all is well."""
    arguments = subject.arguments()
    arguments = arguments.replacing({n: t * size for n, t in arguments.data.items()})
    # Numbers that are large for float16 leave its range in any sum: there float64 decides alone.
    always = size == 0 or subject.dtype != "float16"
    for measure in (output_of, gradients_of) if subject.forward.backward else (output_of,):
        found = measure(subject.forward.fn, arguments, subject.seed, 0.0)
        exact, own = _by_the_reference(subject, arguments, measure)
        for name, tensor in found.items():
            what = "the output" if name == "output" else f"the gradient of {name}"
            told = f"inputs of size {size:g}: {what}"
            if always and measure is output_of and bool(tensor.isnan().any()):
                return Verdict(Status.WRONG, size, f"{told} is NaN")
            # Near the edge of the range an error of the usual size may carry beyond it.
            fits = exact[name].isfinite() & (exact[name].abs() < torch.finfo(tensor.dtype).max / 2)
            lost = fits & ~tensor.isfinite()
            if bool(lost.any()) and (always or bool((lost & own[name].isfinite()).any())):
                reason = f"{told} is not finite in {subject.dtype} where it is in float64"
                return Verdict(Status.WRONG, size, reason)
            if bool(lost.any()) and subject.name == "reference":
                share = float(lost.double().mean())
                reason = (
                    f"{told} is not finite in {100 * share:.3g}% of its elements: its range ends"
                )
                return Verdict(Status.UNDETERMINED, size, reason)
    return None


def _by_the_reference(
    subject: Subject, arguments: Arguments, measure: Callable[..., Quantities]
) -> tuple[Quantities, Quantities]:
    """The quantities of the reference in float64, and in the dtype of the subject."""
    reference = subject.variant.forward("reference").fn
    wide = arguments.to(torch.float64)
    exact = measure(reference, wide, subject.seed, 0.0)
    return exact, measure(reference, arguments, subject.seed, 0.0)


def far_from_zero(subject: Subject) -> Verdict:
    """Inputs far on one side, each of q, k or x by itself: right to the budget, by value."""
    if _is_elementwise(subject):
        raise Unsupported(
            "of an activation that takes each element by itself relative_accuracy says it"
        )
    names = [name for name in subject.arguments().data if name != "v"]
    return _over(subject, {f"{n} about {m:g}": _shifted(n, m) for n in names for m in MEANS})


def large_scores(subject: Subject) -> Verdict:
    """Scores beyond 100 and 10,000: right to the budget, by value."""
    return _over(subject, {f"q times {by:g}": _grown(by) for by in GROWTH})


def _is_elementwise(subject: Subject) -> bool:
    return bool(
        getattr(subject.variant, "gated", False) or subject.variant.declared("elementwise", False)
    )


def _shifted(name: str, mean: float) -> Prepare:
    return lambda arguments, seed: arguments.replacing({name: arguments.data[name] + mean})


def _grown(by: float) -> Prepare:
    return lambda arguments, seed: arguments.replacing({"q": arguments.data["q"] * by})


def _over(subject: Subject, cases: dict[str, Prepare]) -> Verdict:
    """Judge each case that can be judged; where no number is left to judge by, none."""
    if subject.dtype == "float64":
        raise Unsupported("nothing wider is at hand to hold float64 to")
    made = 0
    few = FEW_DRAWS if subject.variant.declared("differentiable", True) else None
    for told, prepare in cases.items():
        oracle = Oracle(subject.variant, subject.case(), prepare=prepare, first=few)
        # Where rounding the inputs alone moves a result so far, or it is smaller than the dtype
        # holds, nobody can be held to it.
        if oracle.is_ill_conditioned() or oracle.is_below_range():
            continue
        made += 1
        worst = oracle.judge(subject.forward.fn)[0]
        verdict = agreement(oracle, subject.name, worst, told)
        if verdict.status is not Status.OK:
            return verdict
    if not made:
        raise Unsupported(f"in {subject.dtype} rounding the inputs alone decides all of these")
    return Verdict(Status.OK)
