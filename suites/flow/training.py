"""A few steps of training, after which units may have died."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bakeoff.suites.flow.stacks import Stack

__all__ = ["LEARNING_RATE", "STEPS", "trained"]

STEPS = 20
#: High, as where units die: Adam moves each weight by about so much in a step.
LEARNING_RATE = 0.01


def trained(
    stack: Stack,
    x: torch.Tensor,
    target: torch.Tensor,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> Stack:
    """The stack itself after steps of Adam on the mean squared error to ``target``.

    Args:
        stack: Changed in place.
        x: All data, (…, F), in each step.
        target: In the shape of the output.
        steps: How many.
        learning_rate: Of Adam.
    """
    optimizer = torch.optim.Adam(stack.parameters(), learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(stack(x), target).backward()
        optimizer.step()
    return stack
