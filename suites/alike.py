"""Whether two runs of one forward on the same values give the same output and gradients."""

from __future__ import annotations

import torch

from bakeoff.suites.budget import Quantities
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Verdict, largest_of

__all__ = ["quantities_of", "unlike"]


def quantities_of(output: torch.Tensor, arguments: Arguments, seed: int) -> Quantities:
    """The output, and where it has a graph the gradient of each leaf, for a random one of it."""
    found = {"output": output.detach()}
    if output.requires_grad:
        generator = torch.Generator().manual_seed(seed)
        into = torch.randn(output.shape, generator=generator).to(output)
        leaves = arguments.leaves()
        gradients = torch.autograd.grad(output, list(leaves.values()), into, allow_unused=True)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            found[name] = torch.zeros_like(leaf) if gradient is None else gradient
    return found


def unlike(subject: Subject, found: Quantities, expected: Quantities, told: str) -> Verdict | None:
    """What is wrong, if a quantity differs by more than the order of sums explains."""
    # Gradients that cancel are known no better than their terms: the largest of all bounds.
    slack = max((subject.slack(tensor) for tensor in expected.values()), default=0.0)
    for name, right in expected.items():
        what = "the output" if name == "output" else f"the gradient of {name}"
        if name not in found or found[name].shape != right.shape:
            return Verdict(Status.WRONG, reason=f"{told}: {what} is missing, or of another shape")
        change = largest_of(found[name] - right)
        if change > slack:
            return Verdict(Status.WRONG, change, f"{told}: {what} differs by {change:.3g}")
    return None
