"""Turns a cell into something to run: forward, backward or training, eager or compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bakeoff.registry.variants import Variant
from bakeoff.suites.records import Cell
from bakeoff.suites.tensors import Arguments, arguments_for

__all__ = ["Call"]


@dataclass
class Call:
    """One cell, ready to run.

    Args:
        arguments: The tensors; leaves where a gradient is taken.
        output: Computes the output from them.
        direction: forward, backward or training.
        signs: The gradient that reaches the output, made once so that it costs nothing later.
        compile_seconds: How long torch.compile took, where the mode is compiled.
    """

    arguments: Arguments
    output: Callable[[], torch.Tensor]
    direction: str
    signs: torch.Tensor | None = None
    compile_seconds: float | None = None

    @classmethod
    def of(cls, variant: Variant, cell: Cell) -> Call:
        """Draw the arguments of ``cell``, compile if asked to, and run once."""
        case, fn = cell.case, variant.forward(cell.forward).fn
        arguments = arguments_for(variant, case)
        if case.direction != "forward":
            arguments = arguments.requiring_grad()

        def output() -> torch.Tensor:
            return arguments.call(fn)

        call = cls(arguments, output, case.direction)
        if case.mode == "compiled":
            # A limit on recompilations is kept for each code object, and cells share this one.
            torch._dynamo.reset()
            call.output = torch.compile(output)
            started = time.perf_counter()
            call._run_once()
            call.compile_seconds = time.perf_counter() - started
        else:
            call._run_once()
        return call

    def _run_once(self) -> None:
        if self.direction == "forward":
            self.forward()
        else:
            self.signs = torch.ones_like(self.output())
            self.training()

    def forward(self) -> torch.Tensor:
        """The output, without a graph."""
        with torch.no_grad():
            return self.output()

    def training(self) -> tuple[torch.Tensor, ...]:
        """Forward and backward; gradients are returned, so none accumulate."""
        return self.backward(self.output(), keep=False)

    def backward(self, output: torch.Tensor, *, keep: bool = True) -> tuple[torch.Tensor, ...]:
        """The gradients of ``output`` with respect to every leaf."""
        leaves = list(self.arguments.leaves().values())
        return torch.autograd.grad(output, leaves, self.signs, retain_graph=keep, allow_unused=True)

    def timed(self) -> Callable[[], object]:
        """What a clock should run: for backward, on the graph of a forward run just before."""
        if self.direction == "forward":
            return self.forward
        if self.direction == "training":
            return self.training
        output = self.output()
        return lambda: self.backward(output)
