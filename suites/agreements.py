"""Probes that hold a forward to the reference, at sizes and arguments that faults like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from bakeoff.registry.shapes import Case, Shape
from bakeoff.suites.budget import Oracle, gradients_of
from bakeoff.suites.layouts import random_mask
from bakeoff.suites.records import Status
from bakeoff.suites.sensitivity import REFUSED, other_values
from bakeoff.suites.tensors import Arguments, arguments_for, why_not
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, agreement, largest_of, right_if

__all__ = [
    "cross",
    "mask_gradient",
    "options_obeyed",
    "prime",
    "scale_given",
    "single",
    "value_size",
]

#: Scales that are not the default of any usual head: first one that is like none.
SCALES = (0.3, 1.7, 1.0, -0.4)
#: Draws where a fault shows in every row.
FEW_DRAWS = 2
#: The most cases in which one option is tried.
MOST_VALUES = 3


def single(subject: Subject) -> Verdict:
    """Sizes of 1: one position; and for attention one example with one head."""
    if not subject.is_attention:
        return _as_reference(subject, "", batch=1, seq_len=1)
    alone = {"batch": 1, "heads": 1, "kv_heads": 1}
    return _worst(
        _as_reference(subject, "", **sizes) for sizes in ({"q_len": 1, "k_len": 1}, alone)
    )


def prime(subject: Subject) -> Verdict:
    """A prime N, larger than the usual block."""
    sizes = {"q_len": 131, "k_len": 131} if subject.is_attention else {"seq_len": 131}
    return _as_reference(subject, "", **sizes)


def cross(subject: Subject) -> Verdict:
    """Fewer keys than queries, and more."""
    return _worst(
        _as_reference(subject, "cross", **sizes)
        for sizes in ({"q_len": 29, "k_len": 53}, {"q_len": 53, "k_len": 29})
    )


def value_size(subject: Subject) -> Verdict:
    """Values of another size than queries and keys, neither a power of two."""
    return _as_reference(subject, "", head_dim=12, value_dim=20)


def scale_given(subject: Subject) -> Verdict:
    """A scale that is given is taken instead of the default, also where it is 0 or negative."""
    found = [_under_scale(subject, scale) for scale in SCALES]
    return _worst([*found, _under_no_scale(subject)])


def _under_scale(subject: Subject, scale: float) -> Verdict:
    def scaled(arguments: Arguments, seed: int) -> Arguments:
        return arguments.having(scale=scale)

    if not _is_finite(subject, scaled(subject.arguments(), 0)):
        return Verdict(Status.OK)  # the formula has no such scale, as a root of a negative one
    # Where nothing jumps, the others show in every row.
    few = scale != SCALES[0] and subject.variant.declared("differentiable", True)
    oracle = Oracle(
        subject.variant, subject.case(), prepare=scaled, first=FEW_DRAWS if few else None
    )
    return _judged(subject, oracle, f"scale {scale:g}")


def _under_no_scale(subject: Subject) -> Verdict:
    """Under 0 all weights may be equal: a budget, which moves inputs, would allow for no sums."""
    arguments = subject.arguments().having(scale=0.0)
    if subject.name == "reference" or not _is_finite(subject, arguments):
        return Verdict(Status.OK)
    with torch.no_grad():
        expected = arguments.call(subject.variant.forward("reference").fn)
    change = largest_of(subject.output(arguments) - expected)
    reason = f"scale 0: the output differs from the reference's by {change:.3g}"
    return right_if(change <= subject.slack(expected), reason)


def mask_gradient(subject: Subject) -> Verdict:
    """The gradients are those of the reference where a mask hides some keys, too."""
    level = subject.forward.masks
    if level == "none":
        raise Unsupported("it declares that it obeys no mask")

    def masked(arguments: Arguments, seed: int) -> Arguments:
        return arguments.having(mask=random_mask(arguments, level, seed))

    oracle = Oracle(subject.variant, subject.case("", "training"), gradients_of, masked)
    return _judged(subject, oracle, "with a random mask")


def options_obeyed(subject: Subject) -> Verdict:
    """Under other values of each option it is the reference under the same: no bound is off by one.

    Values that the reference refuses are left out.
    """
    verdicts = [
        _agrees(subject, case, f"{name} = {case.options[name]!r}")
        for name in subject.variant.options
        for case in _cases(subject, name)
    ]
    if not verdicts:
        raise Unsupported("it has no option of which another value can be tried")
    return _worst(verdicts)


def _cases(subject: Subject, name: str) -> Iterator[Case]:
    """Cases with other values of an option, plain and causal, that the reference can run."""
    tried = 0
    for value in other_values(subject.variant, name, _size(subject)):
        options = {**subject.variant.options, name: value}
        found = [case for case in _bases(subject, options) if _runs(subject, case)]
        yield from found
        tried += bool(found)
        if tried == MOST_VALUES:
            return


def _size(subject: Subject) -> Shape | int:
    shape = subject.case().shape
    return shape if isinstance(shape, Shape) else shape.features


def _bases(subject: Subject, options: Mapping[str, Any]) -> Iterator[Case]:
    for pattern in ("self", "causal_self") if subject.is_attention else ("",):
        try:
            case = replace(subject.case(pattern), options=options)
        except Unsupported:
            continue
        if why_not(subject.variant, subject.name, case) is None:
            yield case


def _runs(subject: Subject, case: Case) -> bool:
    """Whether the reference gives numbers under these options."""
    try:
        arguments = arguments_for(subject.variant, case)
    except REFUSED:
        return False
    return _is_finite(subject, arguments)


def _is_finite(subject: Subject, arguments: Arguments) -> bool:
    """Whether the reference gives numbers, in float64."""
    try:
        with torch.no_grad():
            output = arguments.to(torch.float64).call(subject.variant.forward("reference").fn)
    except REFUSED:
        return False
    return bool(output.isfinite().all())


def _agrees(subject: Subject, case: Case, told: str) -> Verdict:
    where = f"{told}, {case.pattern}" if case.pattern else told
    return _judged(subject, Oracle(subject.variant, case), where)


def _as_reference(subject: Subject, pattern: str, **sizes: Any) -> Verdict:
    told = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return _judged(subject, Oracle(subject.variant, subject.case(pattern, **sizes)), told)


def _judged(subject: Subject, oracle: Oracle, told: str) -> Verdict:
    return agreement(oracle, subject.name, oracle.judge(subject.forward.fn)[0], told)


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst status; of several the largest ratio, where one without is beyond all others."""

    def badness(verdict: Verdict) -> tuple[int, float]:
        return verdict.status.severity, math.inf if verdict.value is None else verdict.value

    return max(verdicts, key=badness)
