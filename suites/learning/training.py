"""One training run that can pause: AdamW, warm-up, cosine, the loss curve, and divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from bakeoff.suites.learning.task import Examples, Task

__all__ = ["Point", "Training", "evaluated"]

#: The share of the steps in which the learning rate rises, and what is left of it at the end.
WARM_UP, LAST = 0.05, 0.1
WEIGHT_DECAY = 0.01
#: The norm above which a gradient is scaled down.
LARGEST = 1.0
#: Points of a loss curve.
POINTS = 20
#: A loss so many times what it was at the start, after the warm-up, has diverged, as one that is
#: not finite has.
EXPLODED = 10.0
HELD_OUT = 256
#: Examples that are judged at once.
AT_ONCE = 256


def _nobody() -> None:
    """Nobody is told that it goes on."""


@dataclass(frozen=True)
class Point:
    """A point of a loss curve.

    Args:
        step: Steps done.
        train: The mean loss of the batches since the point before.
        validation: The loss on validation data.
        score: The score there.
    """

    step: int
    train: float
    validation: float
    score: float


@dataclass
class Training:
    """One run; :meth:`advance` goes on from where it stopped.

    All variants get the same examples in the same order for the same seed. AdamW (Loshchilov and
    Hutter, 2019) with β = (0.9, 0.999); the learning rate rises over the first 5% of the steps and
    falls to a tenth along a cosine; a gradient of a norm above 1 is scaled down to it.

    Args:
        model: What is trained, in place.
        task: The task.
        rate: The largest learning rate.
        steps: Steps of the whole run, which fix the schedule.
        seed: Of the examples, their order, and the variant's noise.
        alive: Called now and then.
        device: Where the model is.

    Attributes:
        curve: The loss curve so far.
        reached: The step at which the validation score first reached the task's target.
        diverged: Why the run ended early; empty where it did not.
        seconds: Time of the steps, without evaluation: of the processor, which hardly depends on
            what else the machine does; on a GPU by the clock on the wall.
    """

    model: nn.Module
    task: Task
    rate: float
    steps: int
    seed: int = 0
    alive: Callable[[], None] = _nobody
    device: str = "cpu"
    curve: list[Point] = field(default_factory=list)
    reached: int | None = None
    diverged: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        count = min(self.task.pool, self.steps * self.task.batch)
        self.data = self.task.make("train", count, self.seed).to(self.device)
        self.held_out = self.task.make("validation", HELD_OUT, self.seed).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.step = 0
        self._clock = time.process_time if self.device == "cpu" else time.perf_counter
        self._order = torch.Generator().manual_seed(self.seed)
        self._noise = torch.Generator().manual_seed(self.seed).get_state()
        self._losses: list[torch.Tensor] = []
        self._every = max(1, self.steps // POINTS)

    @property
    def validation(self) -> float:
        """The last validation loss; infinite where the run diverged."""
        return math.inf if self.diverged or not self.curve else self.curve[-1].validation

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: all steps done, solved to the last, or diverged."""
        solved = bool(self.curve) and self.curve[-1].score == 1.0
        return self.step >= self.steps or bool(self.diverged) or solved

    def advance(self, until: int) -> None:
        """Train up to step ``until``, or until there is nothing left to do."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._noise)
            while self.step < until and not self.finished:
                self._one()
                if self.step % self._every == 0 or self.step in (1, self.steps):
                    self._look()
            self._noise = torch.get_rng_state()

    def _one(self) -> None:
        started = self._clock()
        index = torch.randint(len(self.data), (self.task.batch,), generator=self._order)
        index = index.to(self.device)
        batch = self.data.at(index)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * schedule(self.step, self.steps)
        self.model.train()
        loss = self.task.loss(self.model(batch.x, batch.given), batch.y)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST)
        self.optimizer.step()
        self._losses.append(loss.detach())
        self.step += 1
        self.seconds += self._clock() - started

    def _look(self) -> None:
        """Add a point to the curve, and see whether the run is still worth going on with."""
        self.alive()
        train = float(torch.stack(self._losses).mean())
        self._losses = []
        validation, score = evaluated(self.model, self.task, self.held_out)
        start = self.curve[0].train if self.curve else train
        warm = self.step > WARM_UP * self.steps  # before, large ones may still come down
        for name, loss in (("training", train), ("validation", validation)):
            if not math.isfinite(loss) or (warm and loss > EXPLODED * max(start, 1.0)):
                self.diverged = f"the {name} loss was {loss:.3g} after {self.step} steps"
                return
        self.curve.append(Point(self.step, train, validation, score))
        if self.reached is None and score >= self.task.target:
            self.reached = self.step


def schedule(step: int, steps: int) -> float:
    """The share of the learning rate at a step: warm-up, then a cosine.

    Example:
        >>> [round(schedule(step, 100), 3) for step in (0, 4, 5, 100)]
        [0.2, 1.0, 1.0, 0.1]
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return LAST + (1 - LAST) * (1 + math.cos(math.pi * done)) / 2


def evaluated(model: nn.Module, task: Task, examples: Examples) -> tuple[float, float]:
    """The loss and the score of ``model`` on ``examples``, when not training."""
    model.eval()
    places = torch.arange(len(examples), device=examples.x.device)
    with torch.no_grad():
        parts = [examples.at(some) for some in torch.split(places, AT_ONCE)]
        output = torch.cat([model(part.x, part.given) for part in parts])
    return float(task.loss(output, examples.y)), task.score(output, examples.y)
