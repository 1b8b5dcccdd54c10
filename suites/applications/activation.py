"""What stands for an activation of a model: a variant, which keeps what was there before."""

from __future__ import annotations

import torch
from torch import nn

from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.module import VariantModule

__all__ = ["ActivationSite"]


class ActivationSite(nn.Module):
    """A variant in place of an activation.

    Args:
        original: What was there before.
        variant: The variant.
    """

    def __init__(self, original: nn.Module, variant: VariantModule) -> None:
        super().__init__()
        self.original, self.variant = original, variant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The variant of x (..., F)."""
        if x.dim() > 3 and not self.variant.variant.declared("elementwise", False):
            raise UnsupportedError(
                f"{self.variant.variant.name}: x has shape {tuple(x.shape)}: features must come "
                "last for a variant that is not elementwise; leave this layer out (where=…)"
            )
        output: torch.Tensor = self.variant(x)
        return output
