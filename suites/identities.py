"""Identities that a variant declares: each must hold, and its counterpart must not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from bakeoff.registry.binding import context_for, resolve_options
from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Identity
from bakeoff.suites.budget import Oracle
from bakeoff.suites.errors import Errors
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments, why_not
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, right_if

__all__ = ["holds"]

_SHARED = ("mask", "causal", "scale")


def holds(catalog: Catalog, subject: Subject, identity: Identity, pattern: str) -> Verdict:
    """Judge an identity of the subject's variant on a small case of ``pattern``."""
    case = subject.case(pattern)
    size = case.shape if isinstance(case.shape, Shape) else case.shape.features
    other = _other(catalog, identity)

    try:
        options = identity.options(size) if identity.options else {}
        tensors = identity.tensors(size) if identity.tensors else {}
        unless = identity.unless(size) if identity.unless else {}
    except UnsupportedError as answer:
        raise Unsupported(str(answer)) from answer
    held = _judge(subject, case, other, options, tensors)
    if not held.right:
        return Verdict(Status.WRONG, held.ratio if held.finite else None, held.explain())
    counterpart = _judge(subject, case, other, unless, {})
    return right_if(
        not counterpart.right,
        "it holds as well where it must not: what it depends on is ignored",
        held.ratio,
    )


def _other(catalog: Catalog, identity: Identity) -> Callable[..., torch.Tensor]:
    """What the variant must equal, as a function of the arguments of the kind alone."""
    options: Mapping[str, Any] = {}
    if isinstance(identity.equals, str):
        variant = catalog[identity.equals]
        fn, options = variant.forward("reference").fn, variant.options
    else:
        fn = identity.equals

    def call(*tensors: Any, grid: Any = None, **given: Any) -> torch.Tensor:
        shared = {name: value for name, value in given.items() if name in _SHARED}
        shared |= context_for(fn, {"grid": grid})
        result: torch.Tensor = fn(*tensors, **options, **shared)
        return result

    return call


def _judge(
    subject: Subject,
    case: Case,
    other: Callable[..., torch.Tensor],
    options: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
) -> Errors:
    """How far the forward is from ``other`` under these options and tensors."""
    chosen = replace(case, options=resolve_options(subject.variant, options))
    reason = why_not(subject.variant, subject.name, chosen)
    if reason:
        raise Unsupported(reason)

    def prepare(arguments: Arguments, seed: int) -> Arguments:
        first = next(iter(arguments.data.values()))
        return arguments.replacing({n: t.detach().to(first) for n, t in tensors.items()})

    oracle = Oracle(subject.variant, chosen, prepare=prepare, reference=other)
    return oracle.judge(subject.forward.fn)[0]
