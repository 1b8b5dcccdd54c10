"""The output layer's choice matters: identity for numbers, sigmoid for probabilities, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import descend

FEATURES, OUTPUTS = 16, 4
TRAINED, HELD_OUT, BINS = 512, 4096, 10
RATES = (0.01, 0.03, 0.1)
#: Where an output that is taken as a probability is cut off.
TINY = 1e-4
#: How far apart the means of what a label says are, in standard deviations of a feature.
APART = 2.0

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Draw = Callable[[Experiment, int, int], tuple[torch.Tensor, torch.Tensor]]


def squared_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over examples and outputs, (runs,)."""
    return (output - target).square().mean((1, 2))


def log_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """−Σ y log p + (1 − y) log(1 − p), each output taken as the probability p of its label.

    It is proper for labels of which several may be true and for classes of which one is, and it
    asks nothing of the outputs but that each is a probability; what is none is cut off, as in the
    source's equation 6.18.
    """
    p = output.clamp(TINY, 1 - TINY)
    each = F.binary_cross_entropy(p, target.expand_as(p), reduction="none")
    return each.sum(2).mean(1)


def numbers(experiment: Experiment, size: int, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
    """y = x A + noise, each output of variance 1."""
    x = experiment.normal(size, FEATURES, stream=stream)
    weight = experiment.normal(FEATURES, OUTPUTS, stream=1) / math.sqrt(FEATURES)
    noise = experiment.normal(size, OUTPUTS, stream=stream + 1)
    return x, math.sqrt(0.8) * x @ weight + math.sqrt(0.2) * noise


def labels(experiment: Experiment, size: int, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Independent labels, each of which moves x along a direction of its own."""
    y = (experiment.normal(size, OUTPUTS, stream=stream) > 0).float()
    return _moved(experiment, y - 0.5, stream), y


def classes(experiment: Experiment, size: int, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One of OUTPUTS classes, which moves x along its direction."""
    y = F.one_hot(experiment.normal(size, OUTPUTS, stream=stream).argmax(1), OUTPUTS).float()
    return _moved(experiment, y, stream), y


def _moved(experiment: Experiment, along: torch.Tensor, stream: int) -> torch.Tensor:
    """Normal around means in orthogonal directions: p(y | x) is exactly logistic in x."""
    directions = torch.linalg.qr(experiment.normal(FEATURES, OUTPUTS, stream=1))[0]
    noise = experiment.normal(len(along), FEATURES, stream=stream + 1)
    moved: torch.Tensor = APART * along @ directions.mT + noise
    return moved


@dataclass(frozen=True)
class Task:
    """What the output layer of ``role`` is for."""

    role: str
    draw: Draw
    loss: Loss


TASKS = (
    Task("regression", numbers, squared_error),
    Task("probabilities", labels, log_loss),
    Task("classes", classes, log_loss),
)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """By how much the best of the other two loses to the layer whose task it is.

    A linear map with the output layer behind it, which can express each task's truth.
    """
    found = {}
    for task in TASKS:
        scores = {role: _scores(experiment, role, task) for role in experiment.roles}
        own = scores.pop(task.role)
        for i, what in enumerate(("loss", "calibration")):
            found[f"{task.role}_{what}"] = min(score[i] for score in scores.values()) - own[i]
    return found


def _scores(experiment: Experiment, role: str, task: Task) -> tuple[float, float]:
    """Loss and error of calibration on fresh data, at the best rate."""
    runs, layer = len(RATES), experiment.module(role, OUTPUTS)
    weight = 0.1 * experiment.normal(FEATURES, OUTPUTS, stream=2)
    weights = weight.repeat(runs, 1, 1).requires_grad_()
    # One half: within (0, 1) also for the identity, that it has a gradient to begin with.
    biases = torch.full((runs, 1, OUTPUTS), 0.5, device=weights.device, requires_grad=True)
    x, y = task.draw(experiment, TRAINED, 10)

    def output(inputs: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = layer(inputs @ weights + biases)
        return made

    steps = experiment.at_scale(200, 1000)
    descend([weights, biases], lambda step: task.loss(output(x), y), RATES, steps, "adam")
    with torch.no_grad():
        inputs, target = task.draw(experiment, TRAINED, 20)
        best = int(task.loss(output(inputs), target).nan_to_num(math.inf).argmin())
        inputs, target = task.draw(experiment, HELD_OUT, 30)
        made = output(inputs)[best]
        return float(task.loss(made[None], target)[0]), _calibration(made, target)


def _calibration(output: torch.Tensor, target: torch.Tensor) -> float:
    """Mean |output − target| of the means of BINS bins that hold equally many outputs."""
    order = output.flatten().argsort()
    outputs, targets = (t.flatten()[order].chunk(BINS) for t in (output, target))
    off = [(o.mean() - t.mean()).abs() for o, t in zip(outputs, targets, strict=True)]
    return float(torch.stack(off).mean())


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    what = {"loss": "loss", "calibration": "error of calibration"}
    yield Claim(
        "output_layer",
        "The output layer's choice matters: identity for regression, sigmoid for probabilities, "
        "softmax for classes.",
        "Goodfellow, Bengio and Courville 2016, §6.2.2",
        number=26,
        roles={"regression": "identity", "probabilities": "sigmoid", "classes": "softmax"},
        criteria=tuple(
            Criterion(
                f"{task.role}_{name}", f"{says} of the better other − own, {task.role}", above=0.0
            )
            for task in TASKS
            for name, says in what.items()
        ),
        measure=measure,
    )
