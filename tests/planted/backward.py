"""A backward of one's own, and the decorator that plants faults of the backward."""

from __future__ import annotations

import torch

from planted.corpus import fault
from planted.witness import gradient_differs


def gradients(why, *, of, at=None, witness=None, incoming=None, **declared):
    """Plant a fault that shows in a gradient ``at`` a call."""
    seen = witness or gradient_differs(at or {}, incoming)
    return fault("gradients", why, of=of, witness=seen, **declared)


class Backward(torch.autograd.Function):
    """x as it is, with a backward of one's own; ``change`` gets the incoming gradient."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad), None


def with_backward(x, change):
    return Backward.apply(x, change)


def scaled(factor, grad):
    return grad * factor
