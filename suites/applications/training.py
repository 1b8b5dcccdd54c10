"""Trains a model for a fixed number of steps, and looks at it on the way."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from bakeoff.registry.errors import BakeoffError
from bakeoff.suites.applications.application import Application
from bakeoff.suites.peaks import peak_bytes
from bakeoff.suites.statistics import Estimate, median, median_ratio

__all__ = ["DivergedError", "Run", "looked_at", "train"]

#: How often a model is looked at on the way: after so many equal parts of its steps.
PARTS = 8
#: Batches that are looked at, the same for every run, none of them trained on.
LOOKS, LOOKS_SEED = 4, 10_000
#: Steps at the beginning that are slower than the rest, and not timed.
WARM_UP = 5
#: Rounds in which a trained model and one as it is take a step each, in random order.
ROUNDS = 9
#: A layer is what carries the first number in the name of a weight.
_LAYER = re.compile(r"^(.*?\.\d+)\.")


class DivergedError(BakeoffError, ArithmeticError):
    """The loss is no number any more; the message says when."""


@dataclass
class Run:
    """What came out of training.

    Args:
        curves: For ``loss``, and each score of the application, the value after so many steps.
        slopes: By layer the norm of its gradient in the first step.
        step: Seconds that one step took.
        ratio: Of the time of a step to that of the model as it is, in rounds of both.
        peak: Bytes that one step held at once, above the model and its data.
    """

    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    slopes: dict[str, float] = field(default_factory=dict)
    step: Estimate | None = None
    ratio: Estimate | None = None
    peak: int = 0


def looked_at(steps: int) -> tuple[int, ...]:
    """After how many steps a model is looked at.

    Example:
        >>> looked_at(160)
        (0, 20, 40, 60, 80, 100, 120, 140, 160)
    """
    return tuple(sorted({round(steps * part / PARTS) for part in range(PARTS + 1)}))


def train(
    app: Application,
    prepare: Callable[[nn.Module, Mapping[str, Any]], object],
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    blind: bool = False,
) -> Run:
    """Build the model, prepare it, train it.

    Runs of one seed begin with the same weights and see the same batches in the same order.

    Args:
        app: What is trained.
        prepare: Changes the model before it is trained, given an example of a call.
        steps: How many steps of AdamW, at the application's constant rate.
        seed: Of the weights, and of the batches.
        device: Where.
        dtype: Of the weights and the data.
        blind: Whether each example sees the data of another: what is learned then is what can be
            known without looking.

    Raises:
        DivergedError: Where the loss becomes infinite or no number.
    """
    test = [_moved(each, device, dtype, app, blind) for each in _test_batches(app)]
    student = _Student.of(app, seed, device, dtype)
    prepare(student.model, test[0])
    student = student.with_optimizer()
    generator = torch.Generator().manual_seed(seed + 1)
    run, times, looks = Run(), [], looked_at(steps)
    for step in range(steps):
        if step in looks:
            _look(app, student.model, test, step, run)
        batch = _moved(app.batch(generator, app.batch_size), device, dtype, app, blind)
        began = _now(device)
        loss = student.step(batch)
        times.append(_now(device) - began)
        _require_finite(float(loss.detach()), step)
        if step == 0:
            run.slopes = _slopes(student.model)
    _look(app, student.model, test, steps, run)
    run.step = median(np.array(times[WARM_UP:] or times))
    run.ratio = _raced(student, _Student.of(app, seed, device, dtype).with_optimizer(), batch)
    run.peak = peak_bytes(lambda: student.gradients(batch), device)
    return run


@dataclass(frozen=True)
class _Student:
    """A model with what trains it."""

    app: Application
    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    device: str

    @classmethod
    def of(cls, app: Application, seed: int, device: str, dtype: torch.dtype) -> _Student:
        torch.manual_seed(seed)
        return cls(app, app.build().to(device, dtype).train(), None, device)

    def with_optimizer(self) -> _Student:
        """Of all weights that the model has now."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.app.rate, weight_decay=0.0)
        return replace(self, optimizer=optimizer)

    def gradients(self, batch: Mapping[str, Any]) -> torch.Tensor:
        self.model.zero_grad()
        loss = self.app.loss(self.model, batch)
        torch.autograd.backward(loss)
        return loss

    def step(self, batch: Mapping[str, Any]) -> torch.Tensor:
        assert self.optimizer is not None
        loss = self.gradients(batch)
        self.optimizer.step()
        return loss


def _raced(student: _Student, twin: _Student, batch: Mapping[str, Any]) -> Estimate:
    """The student's time for a step over the twin's, both on the same batch."""
    order = torch.Generator().manual_seed(0)
    times: dict[int, list[float]] = {0: [], 1: []}
    rivals = (student, twin)
    for _ in range(ROUNDS + 1):
        for which in torch.randperm(2, generator=order).tolist():
            began = _now(student.device)
            rivals[which].step(batch)
            times[which].append(_now(student.device) - began)
    # The first round makes the state of the twin's optimizer.
    return median_ratio(np.array(times[0][1:]), np.array(times[1][1:]))


def _look(
    app: Application, model: nn.Module, test: Sequence[Mapping[str, Any]], step: int, run: Run
) -> None:
    found: dict[str, list[float]] = {}
    model.eval()
    with torch.no_grad():
        for batch in test:
            found.setdefault("loss", []).append(float(app.loss(model, batch)))
            for name, value in (app.scores(model, batch) if app.scores else {}).items():
                found.setdefault(name, []).append(value)
    model.train()
    for name, values in found.items():
        run.curves.setdefault(name, {})[step] = sum(values) / len(values)
    _require_finite(run.curves["loss"][step], step)


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"diverged: the loss is {loss} at step {step}")


def _slopes(model: nn.Module) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, weight in model.named_parameters():
        if weight.grad is not None and (found := _LAYER.match(name)):
            square = float(weight.grad.double().square().sum())
            squares[found[1]] = squares.get(found[1], 0.0) + square
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def _test_batches(app: Application) -> list[Mapping[str, Any]]:
    generator = torch.Generator().manual_seed(LOOKS_SEED)
    draw = app.test_batch or app.batch
    return [draw(generator, app.batch_size) for _ in range(LOOKS)]


def _moved(
    batch: Mapping[str, Any], device: str, dtype: torch.dtype, app: Application, blind: bool
) -> dict[str, Any]:
    """The batch where the model is; for a blind one each example has the data of its neighbour."""
    return {
        name: _tensor(value.roll(1, 0) if blind and name in app.seen else value, device, dtype)
        for name, value in batch.items()
    }


def _tensor(value: Any, device: str, dtype: torch.dtype) -> Any:
    if isinstance(value, list):
        return [{k: _tensor(v, device, dtype) for k, v in each.items()} for each in value]
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype)
    return value


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
