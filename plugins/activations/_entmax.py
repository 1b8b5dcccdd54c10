"""The package entmax, which is optional."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from bakeoff import Case

__all__ = ["differentiable_once", "needs_entmax"]


def needs_entmax(case: Case) -> str | None:
    """None where the package is installed, else how to install it."""
    if importlib.util.find_spec("entmax") is None:
        return "package entmax is not installed: pip install 'bakeoff[entmax]'"
    return None


def differentiable_once(x: torch.Tensor) -> torch.Tensor:
    """x, of which a second derivative is refused: the package's is NaN where an output is zero."""
    result: torch.Tensor = _Once.apply(x)  # type: ignore[no-untyped-call]
    return result


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient
