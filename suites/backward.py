"""Probes of the backward: what any derivative obeys, whatever the function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch

from bakeoff.suites.budget import Function, Oracle, Quantities, move_gradients, moved
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, agreement, brief, largest_of

__all__ = ["gradient_of_each", "linear_backward", "second_derivative", "second_derivatives_of"]

T = TypeVar("T")

#: By what incoming gradients are scaled: powers of two, by which what is linear scales exactly.
FACTORS = {"float16": (-1.0, 2.0**5, 2.0**-5, 0.0)}
FACTORS_DEFAULT = (-1.0, 2.0**10, 2.0**-24, 0.0)


def second_derivative(subject: Subject) -> Verdict:
    """The gradient of a gradient is the reference's, or is refused with an error."""
    _require_derivative(subject)
    if subject.dtype not in ("float32", "float64"):
        raise Unsupported("judged in float32 and float64: of two derivatives few digits are left")
    oracle = _refusing(
        "the reference refuses it",
        lambda: Oracle(subject.variant, subject.case("", "training"), second_derivatives_of),
    )
    worst = _refusing("refused", lambda: oracle.judge(subject.forward.fn)[0])
    return agreement(oracle, subject.name, worst, "differentiated twice")


def second_derivatives_of(
    fn: Function, arguments: Arguments, seed: int, by: float = 0.0
) -> Quantities:
    """The product of the Hessian with ±1, by leaf: of the output's product with ±1 as well."""
    leaves = moved(arguments, by, seed).requiring_grad()
    named = leaves.leaves()
    generator = torch.Generator().manual_seed(seed)
    output = leaves.call(fn)
    # As from a loss: what is marked to be differentiated once refuses only what may be twice.
    into = _signs(output, generator).requires_grad_()
    first = torch.autograd.grad(
        output, list(named.values()), into, create_graph=True, allow_unused=True
    )
    total = torch.zeros((), dtype=output.dtype, device=output.device)
    for leaf, gradient in zip(named.values(), first, strict=True):
        signs = _signs(leaf, generator)  # drawn for each, so that all forwards get the same
        if gradient is not None and gradient.requires_grad:
            total = total + (signs * gradient).sum()
    if not total.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in named.items()}
    if by:
        move_gradients(total, by, seed)
    # Not grad(), which looks for the leaves alone and passes by what refuses.
    torch.autograd.backward(total)
    return {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in named.items()
    }


def linear_backward(subject: Subject) -> Verdict:
    """A backward is linear in the gradient that comes in, leaves it alone, and can be repeated."""
    _require_derivative(subject)
    arguments = subject.arguments("", "training")
    generator = torch.Generator().manual_seed(subject.seed)
    output = subject.output(arguments)
    one, other = (torch.randn(output.shape, generator=generator).to(output) for _ in range(2))
    one = one.abs()  # all of one sign, so that of -1 times it all are of the other
    if verdict := _changed(subject, arguments, one):  # of which the rest would be symptoms
        return verdict
    first = _gradients(subject, arguments, one)
    slack = _slack(subject, first)
    for factor in FACTORS.get(subject.dtype, FACTORS_DEFAULT):
        found = _gradients(subject, arguments, factor * one)
        expected = {name: factor * gradient for name, gradient in first.items()}
        told = f"{factor:.3g} times the incoming gradient"
        if verdict := _differ(found, expected, abs(factor) * slack, told):
            return verdict
    second = _gradients(subject, arguments, other)
    both = _gradients(subject, arguments, one + other)
    expected = {name: first[name] + second[name] for name in first}
    slack = slack + _slack(subject, second)
    if verdict := _differ(both, expected, slack, "the sum of two incoming gradients"):
        return verdict
    level = torch.ones_like(output)
    flat = _gradients(subject, arguments, level)
    spread = _gradients(subject, arguments, level.new_ones(()).expand(level.shape))
    told = "an incoming gradient that is expanded, as that of a sum"
    if verdict := _differ(spread, flat, _slack(subject, flat), told):
        return verdict
    return Verdict(Status.OK)


def gradient_of_each(subject: Subject) -> Verdict:
    """Where one input alone requires a gradient it is the same as where all do."""
    _require_derivative(subject)
    arguments = subject.arguments("", "training")
    output = subject.output(arguments)
    generator = torch.Generator().manual_seed(subject.seed)
    into = torch.randn(output.shape, generator=generator).to(output)
    together = _gradients(subject, arguments, into)
    slack = _slack(subject, together)
    for name, gradient in together.items():
        alone = _gradients(subject, arguments, into, only=name)
        told = f"no other input that requires a gradient than {name}"
        if verdict := _differ(alone, {name: gradient}, slack, told):
            return verdict
    return Verdict(Status.OK)


def _require_derivative(subject: Subject) -> None:
    if not subject.forward.backward:
        raise Unsupported("this forward declares that it has no backward")
    if not subject.variant.declared("differentiable", True):
        raise Unsupported("the variant declares that its backward is not the derivative")


def _refusing(told: str, call: Callable[[], T]) -> T:
    """What ``call`` returns; unsupported where it refuses, as torch does, with a RuntimeError."""
    try:
        return call()
    except RuntimeError as error:
        raise Unsupported(f"{told}: {brief(error)}") from error


def _gradients(
    subject: Subject, arguments: Arguments, into: torch.Tensor, only: str = ""
) -> dict[str, torch.Tensor]:
    """The gradient of each leaf, or of one that alone requires it, for what comes in."""
    leaves = arguments.requiring_grad()
    if only:
        rest = {name: leaf.detach() for name, leaf in leaves.leaves().items() if name != only}
        leaves = leaves.replacing(rest)
    named = {name: leaf for name, leaf in leaves.leaves().items() if leaf.requires_grad}
    output = leaves.call(subject.forward.fn)
    if not output.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in named.items()}
    found = torch.autograd.grad(output, list(named.values()), into, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(named.items(), found, strict=True)
    }


def _changed(subject: Subject, arguments: Arguments, into: torch.Tensor) -> Verdict | None:
    """Wrong where the backward writes into what comes in, or into what it kept for itself."""
    leaves = arguments.requiring_grad()
    named = leaves.leaves()
    given = into.clone()
    output = leaves.call(subject.forward.fn)
    if not output.requires_grad:
        return None
    grad = partial(torch.autograd.grad, output, list(named.values()), given, allow_unused=True)
    try:
        first = [None if g is None else g.clone() for g in grad(retain_graph=True)]
        second = grad()
    except RuntimeError:  # compiled, it may give its buffers away, and refuses to go twice
        return None
    if not torch.equal(given, into):
        return Verdict(Status.WRONG, reason="the backward changes the gradient that comes in")
    for name, one, again in zip(named, first, second, strict=True):
        if one is not None and (again is None or not torch.equal(one, again)):
            reason = f"a second backward of the same graph gives another gradient of {name}"
            return Verdict(Status.WRONG, reason=reason)
    return None


def _differ(
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    slack: float,
    told: str,
) -> Verdict | None:
    """Wrong where a gradient differs by more than the slack."""
    for name, right in expected.items():
        change = largest_of(found[name].double() - right.double())
        if change > slack:
            reason = f"{told}: the gradient of {name} is off by {change:.3g}"
            return Verdict(Status.WRONG, change, reason)
    return None


def _slack(subject: Subject, gradients: Mapping[str, torch.Tensor]) -> float:
    """Some are sums that cancel, and known no better than their terms: the largest bounds."""
    return max((subject.slack(gradient) for gradient in gradients.values()), default=0.0)


def _signs(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """±1, exact in every dtype."""
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
