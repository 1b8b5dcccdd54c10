"""Networks that are trained side by side, one for each learning rate; and handwritten digits.

A step of a small network costs torch's dispatch and hardly any arithmetic: so the runs of one
variant, which differ in their learning rate alone, are one batch of matrix products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.digits import digits as the_digits
from bakeoff.suites.flow.quadrature import curve_of, moments

__all__ = [
    "Data",
    "Networks",
    "SideBySide",
    "Split",
    "descend",
    "digits",
    "first_at",
    "gain",
    "train_on",
]

#: Share of the digits that networks are trained on, and that rates are chosen by; the rest tests.
TRAINED, CHOSEN = 0.6, 0.2
ADAM = (0.9, 0.999, 1e-8)
#: Steps, of a few milliseconds each.
SIGN_OF_LIFE = 100


class Data(NamedTuple):
    """Inputs (n, F) and classes (n,)."""

    x: torch.Tensor
    y: torch.Tensor


class Split(NamedTuple):
    """What is trained on, what rates are chosen by, and what is reported."""

    train: Data
    validation: Data
    test: Data


def digits(experiment: Experiment) -> Split:
    """scikit-learn's 1797 handwritten digits, 8×8, each pixel standardised; split by the seed."""
    images, classes = the_digits()
    x = images.flatten(1)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1.0)
    order = torch.randperm(len(x), generator=experiment.generator(100))
    x, y = x[order].to(experiment.device), classes[order].to(experiment.device)
    ends = (int(len(x) * TRAINED), int(len(x) * (TRAINED + CHOSEN)))
    parts = zip(x.tensor_split(ends), y.tensor_split(ends), strict=True)
    return Split(*(Data(*part) for part in parts))


def gain(experiment: Experiment, role: str) -> float:
    """1 / √E[φ(z)²]: √2 for ReLU (He et al. 2015, §2.2), and the same rule for all others."""
    return 1 / math.sqrt(moments(curve_of(experiment.variant(role))).second)


class Networks(nn.Module):
    """Fully connected networks with the activation of ``role``, one for each of ``runs``.

    All begin with the same weights, normal with variance gain² / fan-in, and with biases of zero;
    the same stream draws the same weights, up to the gain, for every activation.

    Args:
        experiment: Whose seed draws the weights.
        role: Of the activation.
        sizes: Features of the input, of each hidden layer, and of the output.
        runs: Number of networks.
    """

    def __init__(self, experiment: Experiment, role: str, sizes: Sequence[int], runs: int) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        pairs = list(itertools.pairwise(sizes))
        gains = [1.0, *[gain(experiment, role)] * (len(pairs) - 1)]
        for layer, ((inputs, outputs), factor) in enumerate(zip(pairs, gains, strict=True)):
            weight = experiment.normal(inputs, outputs, stream=200 + layer)
            weight = weight * factor / math.sqrt(inputs)
            self.weights.append(nn.Parameter(weight.repeat(runs, 1, 1)))
            self.biases.append(nn.Parameter(weight.new_zeros(runs, outputs)))
        # A learnable activation has parameters of its own in each run: runs are features to it.
        self.activations = nn.ModuleList(
            experiment.module(role, runs * size, stream=300 + layer)
            for layer, size in enumerate(sizes[1:-1])
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, F) -> (n, runs, classes)."""
        return self.layers(x)[-1]

    def layers(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What goes into each activation, and the output: (n, runs, features) each."""
        runs, found = len(self.weights[0]), []
        y = x[:, None].expand(-1, runs, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = torch.einsum("nri,rio->nro", y, weight) + bias
            found.append(z)
            if layer < len(self.activations):
                y = self.activate(layer, z)
        return found

    def activate(self, layer: int, z: torch.Tensor) -> torch.Tensor:
        """The activation after ``layer``, (n, runs, features) -> the same."""
        made: torch.Tensor = self.activations[layer](z.flatten(1)).view_as(z)
        return made


class SideBySide:
    """Copies of any network, one a run, which begin alike; its module must not draw noise.

    Args:
        network: The network.
        runs: Number of copies.
    """

    def __init__(self, network: nn.Module, runs: int) -> None:
        self.network = network
        self.parameters = {
            name: parameter.detach().repeat(runs, *[1] * parameter.dim()).requires_grad_()
            for name, parameter in network.named_parameters()
        }

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """(runs, …): what each copy makes of the same arguments."""

        def one(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            made: torch.Tensor = functional_call(self.network, parameters, tensors)
            return made

        return vmap(one)(self.parameters)

    def descend(
        self,
        losses: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        batch: Callable[[], tuple[torch.Tensor, ...]],
        rates: Sequence[float],
        steps: int,
        alive: Callable[[], None],
    ) -> None:
        """Adam on fresh batches: all but the last tensor are arguments, the last is the target.

        Args:
            losses: (what the copies make of it, target) -> (runs,).
            batch: Draws the next batch.
            rates: One a copy.
            steps: How many.
            alive: Called now and then.
        """

        def losses_of(step: int) -> torch.Tensor:
            *tensors, target = batch()
            return losses(self(*tensors), target)

        descend(list(self.parameters.values()), losses_of, rates, steps, "adam", alive)


def descend(
    parameters: Sequence[torch.Tensor],
    losses: Callable[[int], torch.Tensor],
    rates: Sequence[float],
    steps: int,
    method: Literal["sgd", "adam"] = "sgd",
    alive: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Gradient descent of several runs at once, each with a learning rate of its own.

    Args:
        parameters: The first dimension of each holds the runs, one after the other.
        losses: ``step -> (runs,)``; each run's parameters act on its own loss alone.
        rates: One a run.
        steps: How many.
        method: Plain gradient descent, or Adam (Kingma and Ba 2015, algorithm 1).
        alive: Called now and then.

    Returns:
        The loss before each step, (steps, runs).
    """
    parameters = list(parameters)
    each = [_spread(parameter, rates) for parameter in parameters]
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    square = [torch.zeros_like(parameter) for parameter in parameters]
    first, second, tiny = ADAM
    found = []
    for step in range(steps):
        if step % SIGN_OF_LIFE == 0:
            alive()
        loss = losses(step)
        found.append(loss.detach())
        # A variant may ignore what it is given, as a memory: the gradient is then zero.
        gradients = torch.autograd.grad(
            loss.sum(), parameters, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            if method == "adam":
                torch._foreach_lerp_(mean, gradients, 1 - first)
                squares = torch._foreach_mul(gradients, gradients)
                torch._foreach_lerp_(square, squares, 1 - second)
                root = torch._foreach_sqrt(torch._foreach_div(square, 1 - second ** (step + 1)))
                torch._foreach_add_(root, tiny)
                unbiased = torch._foreach_div(mean, 1 - first ** (step + 1))
                gradients = torch._foreach_div(unbiased, root)
            torch._foreach_addcmul_(parameters, gradients, each, value=-1.0)
    return torch.stack(found)


def _spread(parameter: torch.Tensor, rates: Sequence[float]) -> torch.Tensor:
    rate = torch.tensor(rates, device=parameter.device, dtype=parameter.dtype)
    return rate.repeat_interleave(parameter.numel() // len(rates)).view_as(parameter)


@dataclass(frozen=True)
class Curves:
    """How the runs of one variant went.

    Args:
        train: The loss on each batch, before the step, (steps, runs).
        validation: On all of the validation data, every so many steps, (checks, runs).
        test: Likewise on the test data.
        every: Steps between two checks.
    """

    train: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor
    every: int

    @property
    def best(self) -> int:
        """The run with the lowest validation loss at the end."""
        return int(self.validation[-1].nan_to_num(math.inf).argmin())

    def steps_to(self, target: float) -> int:
        """Steps until the test loss is ``target``, at the rate that gets validation there first.

        Among rates that get there together, or not at all, that of the lower last loss. Where it
        never gets there, all steps: no fewer would do.
        """
        checks = first_at(self.validation, target)
        last = self.validation[-1].nan_to_num(math.inf)
        best = min(range(len(last)), key=lambda run: (int(checks[run]), float(last[run])))
        return min(int(first_at(self.test, target)[best]), len(self.test) - 1) * self.every


def train_on(
    networks: nn.Module,
    data: Split,
    rates: Sequence[float],
    steps: int,
    *,
    experiment: Experiment,
    batch: int = 128,
    every: int = 5,
    method: Literal["sgd", "adam"] = "sgd",
) -> Curves:
    """Train on batches drawn by the seed, the same for every variant and run; no regularisation."""
    generator = experiment.generator(400)
    checks: list[tuple[torch.Tensor, torch.Tensor]] = []

    def losses(step: int) -> torch.Tensor:
        if step % every == 0:
            checks.append((loss_of(networks, data.validation), loss_of(networks, data.test)))
        rows = torch.randint(len(data.train.x), (batch,), generator=generator)
        return _cross_entropy(networks(data.train.x[rows]), data.train.y[rows])

    train = descend(list(networks.parameters()), losses, rates, steps, method, experiment.alive)
    checks.append((loss_of(networks, data.validation), loss_of(networks, data.test)))
    validation, test = (torch.stack(column) for column in zip(*checks, strict=True))
    return Curves(train, validation, test, every)


@torch.no_grad()
def loss_of(networks: nn.Module, data: Data) -> torch.Tensor:
    """Mean cross-entropy, (runs,)."""
    return _cross_entropy(networks(data.x), data.y)


def _cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    runs = logits.shape[1]
    return F.cross_entropy(logits.mT, y[:, None].expand(-1, runs), reduction="none").mean(0)


def first_at(curve: torch.Tensor, target: float) -> torch.Tensor:
    """The first place at which each column is at most ``target``; the length where none is."""
    reached = curve <= target
    return torch.where(reached.any(0), reached.int().argmax(0), len(curve))
