"""Declared properties of who depends on whom, measured: of queries, and of places."""

from __future__ import annotations

from dataclasses import replace

from bakeoff.suites.laws import Instance, changes_with_other_queries, resized
from bakeoff.suites.maps import LENGTH, options_that_show
from bakeoff.suites.tensors import arguments_for
from bakeoff.suites.verdicts import Subject, Unsupported, largest_of

__all__ = ["mixes_queries", "relative"]

#: Places that are put before a sequence: a number that few blocks divide.
SHIFT = 5
#: Longer than what most groups of queries hold.
LONG = 131


def mixes_queries(subject: Subject) -> bool:
    """Without causality an output depends on other queries too."""
    instance = _instance(subject, "", LONG)
    if instance.case.causal:
        return False
    change, before = changes_with_other_queries(instance)
    return largest_of(change) > subject.slack(before)


def relative(subject: Subject) -> bool:
    """Only distances count: behind some places that are hidden a sequence gives the same."""
    instances = [found for pattern in ("self", "causal_self") if (found := _able(subject, pattern))]
    if subject.grid or subject.forward.masks == "none" or not instances:
        raise Unsupported("places can't be hidden before a sequence here")
    return all(_same_behind_hidden(subject, instance) for instance in instances)


def _same_behind_hidden(subject: Subject, instance: Instance) -> bool:
    length = instance.case.attention_shape.k_len
    kept = range(SHIFT, length)
    alone = instance.output(resized(instance, kept, q_len=len(kept), k_len=len(kept)))
    mask = instance.allowed[:, :1, :1].clone().fill_(True)
    mask[..., :SHIFT] = False
    behind = instance.output(instance.arguments.having(mask=mask))[:, :, SHIFT:]
    return largest_of(behind - alone) <= subject.slack(alone)


def _able(subject: Subject, pattern: str) -> Instance | None:
    try:
        return _instance(subject, pattern, LENGTH)
    except Unsupported:
        return None


def _instance(subject: Subject, pattern: str, length: int) -> Instance:
    """With windows that do not span everything."""
    case = subject.case(pattern, q_len=length, k_len=length)
    shorter = options_that_show(subject.variant, case)
    case = replace(case, options={**subject.variant.options, **shorter})
    return Instance(
        subject.variant, subject.name, case, arguments_for(subject.variant, case), "", 0.0
    )
