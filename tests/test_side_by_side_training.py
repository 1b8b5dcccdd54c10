"""Runs that train side by side do what each would do alone, under torch's own optimisers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bakeoff
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.textbook.c03_not_zero_centred import SIZES, Centred
from bakeoff.suites.claims.training import (
    Curves,
    Networks,
    SideBySide,
    descend,
    digits,
    first_at,
    gain,
    train_on,
)

RATES = (0.01, 0.1, 0.3)


@pytest.fixture
def experiment(catalog: bakeoff.Catalog) -> Experiment:
    names = ("relu", "prelu", "sigmoid", "tanh", "scaled_dot_product")
    return Experiment(catalog, {name: name for name in names})


@pytest.mark.parametrize(
    ("method", "optimizer"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)]
)
def test_each_run_descends_as_under_torch(method: str, optimizer: type) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    target = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    together = start.repeat(len(RATES), 1, 1).requires_grad_()
    curve = descend(
        [together], lambda step: (together - target).pow(4).mean((1, 2)), RATES, 20, method
    )
    for run, rate in enumerate(RATES):
        alone = start.clone().requires_grad_()
        chosen = optimizer([alone], lr=rate)
        for step in range(20):
            loss = (alone - target).pow(4).mean()
            torch.testing.assert_close(curve[step, run], loss.detach(), rtol=1e-9, atol=0)
            chosen.zero_grad()
            loss.backward()
            chosen.step()
        torch.testing.assert_close(together[run], alone, rtol=1e-9, atol=1e-12)


def test_a_run_that_diverges_leaves_the_others_alone(experiment: Experiment) -> None:
    data = digits(experiment)
    both = Networks(experiment, "relu", (64, 8, 10), 2)
    curves = train_on(both, data, (0.1, 1e6), 20, experiment=experiment)
    one = Networks(experiment, "relu", (64, 8, 10), 1)
    alone = train_on(one, data, (0.1,), 20, experiment=experiment)
    assert not (curves.train[-1, 1] < 2.3)
    torch.testing.assert_close(curves.train[:, :1], alone.train)
    assert curves.best == 0


@pytest.mark.parametrize("role", ["relu", "prelu"])
def test_networks_begin_alike_and_do_what_layers_do(experiment: Experiment, role: str) -> None:
    networks, x = Networks(experiment, role, (6, 5, 4, 3), 2), torch.randn(7, 6)
    y = x
    for layer, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
        y = F.linear(y, weight[1].mT, bias[1])
        if layer < 2:
            y = y.relu() if role == "relu" else torch.where(y > 0, y, 0.25 * y)
    torch.testing.assert_close(networks(x)[:, 1], y)
    torch.testing.assert_close(networks(x)[:, 0], y)


def test_learned_activations_learn_apart_in_each_run(experiment: Experiment) -> None:
    networks = Networks(experiment, "prelu", (64, 8, 10), 2)
    train_on(networks, digits(experiment), (0.0, 0.1), 5, experiment=experiment)
    still, moved = networks.activations[0].slope.detach().view(2, 8)
    assert (still == 0.25).all()
    assert (moved != 0.25).any()


def test_copies_learn_as_the_network_alone(experiment: Experiment) -> None:
    shape = bakeoff.Shape(1, 2, 2, 1, 3, 4, 4)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(experiment.normal(8, 8, stream=1))
            self.attention = experiment.module("scaled_dot_product", shape)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (x @ w for w in (self.weight, self.weight.mT, self.weight))
            split = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))
            made: torch.Tensor = self.attention(*split)
            return made

    x = experiment.normal(5, 3, 8, stream=2)
    copies = SideBySide(Network(), 2)
    copies.descend(
        lambda made, target: (made - target).square().mean((1, 2, 3, 4)),
        lambda: (x, torch.ones(())),
        (0.01, 0.1),
        5,
        lambda: None,
    )
    for run, rate in enumerate((0.01, 0.1)):
        alone = Network()
        optimizer = torch.optim.Adam(alone.parameters(), lr=rate)
        for _ in range(5):
            optimizer.zero_grad()
            (alone(x) - 1).square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(copies.parameters["weight"][run], alone.weight)


def test_the_gain_is_that_of_he_and_keeps_the_second_moment(experiment: Experiment) -> None:
    assert gain(experiment, "relu") == pytest.approx(math.sqrt(2), abs=1e-6)
    assert gain(experiment, "tanh") == pytest.approx(1 / math.sqrt(0.394294), abs=1e-6)


def test_centred_begins_as_the_same_function(experiment: Experiment) -> None:
    plain, centred = Networks(experiment, "sigmoid", SIZES, 2), Centred(experiment, "sigmoid", 2)
    x = experiment.normal(9, 64)
    torch.testing.assert_close(centred(x), plain(x))
    hidden = centred.activate(0, centred.layers(x)[0])
    assert hidden.mean().abs() < 0.1 < plain.activate(0, plain.layers(x)[0]).mean()


def test_digits_are_split_by_the_seed(experiment: Experiment) -> None:
    split, other = digits(experiment), digits(replace(experiment, seed=1))
    rows = [tuple(row) for part in split for row in part.x.tolist()]
    assert len(rows) == 1797
    assert len(set(rows)) == 1797  # no image is there twice, and so none in two parts
    assert not torch.equal(split.train.x, other.train.x)
    assert [len(part.y) for part in split] == [1078, 359, 360]


def test_steps_are_those_of_the_rate_that_validation_chooses() -> None:
    nan, never = math.nan, 9.0
    validation = torch.tensor([[2.0, 2.0, 2.0], [1.0, 0.4, nan], [0.4, 0.4, nan]])
    test = torch.tensor([[2.0, 2.0, 0.1], [0.1, 1.0, 0.1], [0.1, 0.5, 0.1]])
    curves = Curves(torch.zeros(20, 3), validation, test, 10)
    assert first_at(validation, 0.5).tolist() == [2, 1, 3]
    assert curves.steps_to(0.5) == 20
    assert replace(curves, test=test + never).steps_to(0.5) == 20
