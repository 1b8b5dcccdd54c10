"""Whether a forward is a second definition: what shares its work with the reference is none.

That two agree shows something only where they compute apart. So one call of each is followed: the
functions that it enters, and the operations within them. A forward is no second definition where

* it enters the reference's own function, or the reference enters that forward's;
* both enter a function in common that computes, and beside what they have in common one of them
  computes nothing, or both do the same;
* one of them is nothing but an operation of torch, and the other runs just that.

Copies, casts, views and products with plain numbers do not count as computing: to slice, scale and
put together what another function computes defines nothing. Helpers are no dependence, as long as
both sides do something else beside them; nor is what bakeoff offers to all, nor torch. A function
that was compiled is followed as it was written. Two functions with the same instructions are one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import torch

from bakeoff.registry.frozen import FrozenMap
from bakeoff.registry.shapes import Case
from bakeoff.registry.variants import Variant
from bakeoff.suites.layouts import random_mask
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments, arguments_for, why_not
from bakeoff.suites.tracing import Run, run_of
from bakeoff.suites.verdicts import Verdict

__all__ = ["is_independent", "unless_dependent"]

#: Said of what agrees with nothing but itself.
ALONE = "no independent definition"


def unless_dependent(
    found: Verdict, variant: Variant, name: str, case: Case, masked: bool = False
) -> Verdict:
    """What was found of a forward, unless it agrees with nothing but itself: then *unverified*.

    What one independent forward agrees with holds for all others that are compared with it. That
    a forward is wrong, or loses its result, shows all the same. Of the reference nothing is said
    here where others can run the case, so that what they do is not blamed on it: reports call it
    unverified where all others are.

    Args:
        found: Of the forward against the reference.
        variant: The variant.
        name: Of the forward.
        case: In which it was found.
        masked: Whether with a random mask.
    """
    if found.status is not Status.OK:
        return found
    others = [n for n in variant.forwards if n != "reference" and not why_not(variant, n, case)]
    if name == "reference":
        return found if others else Verdict(Status.UNVERIFIED, reason=ALONE)
    own_first = sorted(others, key=lambda other: other != name)
    if any(is_independent(variant, other, case, masked) for other in own_first):
        return found
    within = "what the reference computes with runs within it"
    return Verdict(Status.UNVERIFIED, reason=f"{ALONE}: {within}")


def is_independent(variant: Variant, name: str, case: Case, masked: bool = False) -> bool:
    """Whether a forward computes a case apart from the reference."""
    level = variant.forward(name).masks if masked else "none"
    like = replace(case, seed=0, inputs="normal", options=FrozenMap(case.options))
    return _is_apart(variant, name, like, level)


@functools.lru_cache(maxsize=256)
def _is_apart(variant: Variant, name: str, case: Case, level: str) -> bool:
    arguments = arguments_for(variant, case)
    if level != "none":
        arguments = arguments.having(mask=random_mask(arguments, level, case.seed))
    reference, other = (
        _run(variant.forward(n).fn, arguments, case.direction != "forward")
        for n in ("reference", name)
    )
    if reference.entry in other.functions or other.entry in reference.functions:
        return False
    common = reference.functions & other.functions
    own, others = reference.beside(common), other.beside(common)
    if any(within & common for _, within in other.operations):
        return bool(own) and bool(others) and own != others
    bare = reference.entry is None or other.entry is None
    return not (bare and own.total() == 1 and own == others)


def _run(fn: Callable[..., torch.Tensor], arguments: Arguments, with_graph: bool) -> Run:
    """What one call runs, with a graph where one is wanted: there it may do something else."""
    arguments = arguments.requiring_grad() if with_graph else arguments
    with torch.set_grad_enabled(with_graph):
        return run_of(functools.partial(arguments.call, fn))
