"""Turns a cell into something to run: forward, backward or training, eager or compiled."""

from __future__ import annotations

import functools
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bakeoff.registry.errors import typed
from bakeoff.registry.global_state import guarded
from bakeoff.registry.variants import Variant
from bakeoff.suites.records import Cell
from bakeoff.suites.tensors import Arguments, arguments_for

__all__ = ["SIGNS_SEED", "Call", "compiled"]

#: Of the gradient that reaches an output.
SIGNS_SEED = 0


@dataclass
class Call:
    """One cell, ready to run.

    Args:
        variant: The variant.
        cell: Which forward of it runs, and on what.
        arguments: The tensors; leaves where a gradient is taken.
        output: Computes the output from them.
        signs: The gradient that reaches the output, made once so that it costs nothing later.
        compile_seconds: How long torch.compile took, where the mode is compiled.
        graph_breaks: How often it gave up and went on in Python.
        output_bytes: Size of the output.
    """

    variant: Variant
    cell: Cell
    arguments: Arguments
    output: Callable[[], torch.Tensor]
    signs: torch.Tensor | None = None
    compile_seconds: float | None = None
    graph_breaks: int = 0
    output_bytes: float = 0.0

    @classmethod
    def of(
        cls, variant: Variant, cell: Cell, shared: Mapping[str, torch.Tensor] | None = None
    ) -> Call:
        """Draw the arguments of ``cell``, run once, and compile if asked to.

        Args:
            variant: The variant.
            cell: The cell.
            shared: The data of another call of the same case, to be used instead of a copy: where
                tensors lie in memory changes times by some percent.

        Raises:
            GlobalStateError: Where the forward changes what belongs to the whole process.
        """
        case, fn = cell.case, variant.forward(cell.forward).fn
        arguments = arguments_for(variant, case)
        if case.direction != "forward":
            arguments = arguments.requiring_grad()
        # Data of another shape, as fewer key heads, can't be shared.
        own = arguments.shared()
        fitting = {n: t for n, t in (shared or {}).items() if t.shape == own[n].shape}
        arguments = arguments.replacing(fitting)

        bound = arguments.bind(fn)

        def output() -> torch.Tensor:
            return bound()

        call = cls(variant, cell, arguments, output)
        call._run_guarded(cell.label)
        if case.mode == "compiled":
            call._compile()
        return call

    @property
    def direction(self) -> str:
        """Forward, backward or training."""
        return self.cell.case.direction

    @property
    def least_bytes(self) -> float:
        """Bytes of every tensor of the arguments, read once, and of the output, written once."""
        tensors = [tensor for _, tensor in self.arguments.tensors()]
        return self.output_bytes + sum(float(t.numel() * t.element_size()) for t in tensors)

    @property
    def branch_flops(self) -> float:
        """Of the matrix product in a connection's branch, which is ours and not the variant's."""
        weight = self.arguments.branch
        if weight is None:
            return 0.0
        return 2.0 * next(iter(self.arguments.data.values())).numel() * weight.shape[-1]

    def _compile(self) -> None:
        """Compile, and time it: with nothing from an earlier compilation on the disk."""
        from torch._dynamo.utils import counters  # takes a second to import

        self.output = compiled(self.output)
        with torch._inductor.config.patch(force_disable_caches=True):
            counters.clear()
            started = time.perf_counter()
            self._run_once()
            self.compile_seconds = time.perf_counter() - started
            self.graph_breaks = sum(counters["graph_break"].values())

    def _run_guarded(self, label: str) -> None:
        # Within no_grad, which would hide that a forward switched gradients on.
        with torch.no_grad(), guarded(label):
            output = self.output()
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"the forward returned {typed(output)}, expected a tensor")
        with guarded(label):
            self._run_once()

    def _run_once(self) -> None:
        output = self.forward()
        self.output_bytes = float(output.numel() * output.element_size())
        if self.direction != "forward":
            self.signs = _signs(output.shape, output.dtype, output.device)
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


def compiled(output: Callable[[], torch.Tensor], **options: Any) -> Callable[[], torch.Tensor]:
    """``output``, compiled with these options of torch.compile, sharing nothing with others.

    What was compiled is kept for each code object, up to a limit; cells must not share one.
    """
    assert isinstance(output, types.FunctionType)
    own = types.FunctionType(
        output.__code__.replace(), output.__globals__, closure=output.__closure__
    )
    return torch.compile(own, **options)


@functools.lru_cache(maxsize=4)
def _signs(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """One for all calls of a shape: where it lies in memory changes times, as with the data.

    Of ±1, as :func:`bakeoff.suites.budget.gradients_of` draws them for :data:`SIGNS_SEED`: the
    gradient of a plain sum is zero for what is normalised, and says nothing.
    """
    generator = torch.Generator().manual_seed(SIGNS_SEED)
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return signs.to(dtype=dtype, device=device)
