"""Turns a cell into something to run: forward, backward or training, eager or compiled."""

from __future__ import annotations

import time
import types
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
            call._compile()
        else:
            call._run_once()
        return call

    def _compile(self) -> None:
        """Compile, and time it: with nothing from an earlier compilation on the disk."""
        # Compiled code is kept for each code object, up to a limit; cells must not share one.
        code, closure = self.output.__code__.replace(), self.output.__closure__
        own = types.FunctionType(code, self.output.__globals__, closure=closure)
        self.output = torch.compile(own)
        with torch._inductor.config.patch(force_disable_caches=True):
            started = time.perf_counter()
            self._run_once()
            self.compile_seconds = time.perf_counter() - started

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
        return self._backward(self.output())

    def timed(self, repeats: int) -> Callable[[], object]:
        """What a clock should run ``repeats`` times: a backward on the graph of a forward each."""
        if self.direction == "forward":
            return self.forward
        if self.direction == "training":
            return self.training
        outputs = [self.output() for _ in range(repeats)]
        return lambda: self._backward(outputs.pop())

    def _backward(self, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The gradients of ``output`` with respect to every leaf."""
        leaves = list(self.arguments.leaves().values())
        return torch.autograd.grad(output, leaves, self.signs, allow_unused=True)
