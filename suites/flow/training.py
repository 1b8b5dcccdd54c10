"""A few steps of training, after which units may have died."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bakeoff.suites.flow.stacks import Stack

__all__ = ["LEARNING_RATE", "STEPS", "trained"]

STEPS = 20
#: How far each weight moves in a step.
LEARNING_RATE = 0.01


def trained(
    stack: Stack,
    x: torch.Tensor,
    target: torch.Tensor,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> Stack:
    """The stack itself after steps of sign descent on the mean squared error to ``target``.

    Each weight moves by the learning rate against its gradient's sign (Bernstein et al., 2018), as
    in Adam's first steps, so that a step is as large however small the gradients of deep stacks
    are. (torch.optim takes a second of each process to import.)

    Args:
        stack: Changed in place.
        x: All data, (…, F), in each step.
        target: In the shape of the output.
        steps: How many.
        learning_rate: How far each weight moves in a step.
    """
    parameters = list(stack.parameters())
    for _ in range(steps):
        gradients = torch.autograd.grad(F.mse_loss(stack(x), target), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient.sign(), alpha=-learning_rate)
    return stack
