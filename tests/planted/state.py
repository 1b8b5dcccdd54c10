"""What the faults of state share."""

from __future__ import annotations

import functools

import torch

from bakeoff import Variant
from planted.corpus import fault
from planted.witness import draw_arguments

state = functools.partial(fault, "state")
Tensor = torch.Tensor


def arguments_of(variant: Variant, **at):
    positional, keywords = draw_arguments(variant, at)
    return [x.float() if isinstance(x, Tensor) else x for x in positional], {
        name: x.float() if isinstance(x, Tensor) and x.is_floating_point() else x
        for name, x in keywords.items()
    }


def others(positional):
    return [torch.randn(x.shape) if isinstance(x, Tensor) else x for x in positional]


def wants_gradient(*tensors):
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
