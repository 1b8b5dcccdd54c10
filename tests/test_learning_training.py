"""Training that pauses, diverges and repeats; the search; and the suite as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import bakeoff
from bakeoff.suites.learning.controls import CHANCE, CONVOLUTION, LINEAR, MEAN, controls_of
from bakeoff.suites.learning.models import Sizes, build
from bakeoff.suites.learning.parts import Part, usual_parts
from bakeoff.suites.learning.plan import cells_of
from bakeoff.suites.learning.search import RATES, best_rate
from bakeoff.suites.learning.task import Examples, Task
from bakeoff.suites.learning.tasks import all_tasks
from bakeoff.suites.learning.training import Training, evaluated, schedule
from bakeoff.suites.records import Cell
from bakeoff.suites.selection import selection_for

TASKS = all_tasks()
CATALOG = bakeoff.load(entry_points=False, pyproject=False)
DIGITS = replace(TASKS["digits"], steps=60)


def training(
    task: Task = DIGITS, rate: float = 3e-3, seed: int = 0, depth: int = 2, **parts: str
) -> Training:
    usual = usual_parts(CATALOG)
    for name in parts.values():
        usual = usual.having(Part(CATALOG[name]))
    model = build(task, usual, Sizes(depth, width=32), seed)
    return Training(model, task, rate, task.steps, seed)


def weights(run: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize("connection", ["residual", "stochastic_depth"])
def test_a_paused_run_goes_on_as_if_it_had_not_paused(connection: str) -> None:
    whole, paused = (training(connection=connection) for _ in range(2))
    whole.advance(40)
    for until in (7, 8, 40):
        paused.advance(until)
        torch.randn(3)  # what others draw does not matter
    assert paused.step == whole.step == 40
    assert paused.curve == whole.curve
    assert torch.equal(weights(paused), weights(whole))


def test_seeds_differ_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, other = training(connection="stochastic_depth"), training(seed=1)
    one.advance(20)
    other.advance(20)
    assert torch.equal(before, torch.get_rng_state())
    assert one.curve != other.curve


def test_the_schedule() -> None:
    shares = [schedule(step, 200) for step in range(200)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(shares) == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert schedule(200, 200) == pytest.approx(0.1)


def test_it_learns_and_says_when() -> None:
    run = training()
    run.advance(60)
    assert run.curve[-1].train < 0.5 * run.curve[0].train
    assert run.curve[-1].score > 0.8
    assert [p.step for p in run.curve] == [1, *range(3, 61, 3)]
    reached = [p.step for p in run.curve if p.score >= run.task.target]
    assert run.reached == (reached[0] if reached else None)
    assert run.seconds > 0


def test_an_absurd_learning_rate_diverges() -> None:
    run = training(rate=1e4)
    run.advance(60)
    assert "loss was" in run.diverged
    assert run.finished
    assert run.validation == math.inf
    step = run.step
    run.advance(60)
    assert run.step == step


def test_shuffled_labels_stay_at_the_floor() -> None:
    def shuffled(split: str, count: int, seed: int) -> Examples:
        examples = DIGITS.make(split, count, seed)
        if split != "train":
            return examples
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
        return replace(examples, y=examples.y[order])

    run = training(replace(DIGITS, make=shuffled))
    run.advance(60)
    test = DIGITS.make("test", 2000, 0)
    assert evaluated(run.model, DIGITS, test)[1] < 0.25
    honest = training()
    honest.advance(60)
    assert evaluated(honest.model, DIGITS, test)[1] > 0.8


@dataclass
class Fake:
    """A run whose loss is known."""

    rate: float
    loss: Callable[[float, int], float]
    steps: int = 100
    step: int = 0
    asked: list[int] = field(default_factory=list)

    def advance(self, until: int) -> None:
        self.step = until
        self.asked.append(until)

    @property
    def validation(self) -> float:
        return self.loss(self.rate, self.step)


def searched(loss: Callable[[float, int], float], rates: tuple[float, ...]) -> tuple[Any, Any]:
    runs: dict[float, Any] = {}

    def start(rate: float) -> Any:
        runs[rate] = Fake(rate, loss)
        return runs[rate]

    return best_rate(start, rates), runs


def test_halving_gives_up_the_worse_half() -> None:
    found, runs = searched(lambda rate, step: abs(rate - 3), (1, 2, 3, 4))
    assert found.rate == 3
    assert {rate: run.step for rate, run in runs.items()} == {1: 50, 2: 100, 3: 100, 4: 50}
    assert "edge" not in found.remark


def test_what_diverged_is_not_chosen_and_an_edge_is_told() -> None:
    found, _ = searched(lambda rate, step: math.inf if rate > 1 else 5.0, (1, 2, 3))
    assert found.rate == 1
    assert found.remark == "of 1, 2, 3, at the edge: a better one may lie beyond"
    assert searched(lambda rate, step: 1.0, (7,))[0].rate == 7


def test_a_slow_start_is_not_held_against_a_rate_for_ever() -> None:
    found, _ = searched(lambda rate, step: 2.0 if step < 100 and rate == 2 else 3 - rate, (1, 2, 3))
    assert found.rate == 3


def measured(path: Path, **given: Any) -> pd.DataFrame:
    given = {"tasks": "digits", "steps": 40, "depths": 2, "seeds": (0, 1), **given}
    return bakeoff.run("learning", results=path, catalog=CATALOG, **given).to_pandas()


def test_the_suite_and_how_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.sqlite"
    frame = measured(path, variants="tanh")
    assert set(frame.variant) == {CHANCE, LINEAR, "relu", "tanh"}
    assert set(frame.status) == {"ok"}
    rows = frame.set_index(["variant", "metric"])
    for name in ("relu", "tanh", LINEAR):
        score, chance = rows.loc[(name, "task_accuracy")], rows.loc[(CHANCE, "task_accuracy")]
        assert score.n == 2
        assert score.low < score.value < score.high
        assert score.value > chance.value + 0.2
        assert rows.loc[(name, "learning_rate")].value in RATES
        curve = rows.loc[(name, "validation_loss")].reason.split()
        assert [text.split(":")[0] for text in curve][-1] == "40"
    again = measured(path, variants=("tanh", "sigmoid"))
    kept = again[again.variant != "sigmoid"]
    pd.testing.assert_frame_equal(
        kept.reset_index(drop=True), frame.reset_index(drop=True), check_like=True
    )
    assert (again.variant == "sigmoid").any()


def test_what_diverges_and_what_refuses_are_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bakeoff.suites.learning import measuring, search

    def absurd(start: Any) -> Any:
        return search.best_rate(start, (1e4,))

    monkeypatch.setattr(measuring, "best_rate", absurd)
    selection = selection_for(
        "quick", "learning", {"tasks": ("digits",), "steps": 20, "variants": ("tanh",)}
    )
    cell = next(c for c in cells_of(CATALOG, selection) if c.variant == "tanh")
    records = {r.metric: r for r in measuring.measured(cell, CATALOG, lambda: None)}
    assert records["diverged"].value == 1.0
    assert records["task_accuracy"].status == "failed"
    assert "diverged at learning rate 10000: seed 0:" in records["task_accuracy"].reason
    assert records["task_accuracy"].value == pytest.approx(0.1, abs=0.05)
    assert all(math.isfinite(r.value) for r in records.values() if r.value is not None)

    selection = selection_for(
        "quick", "learning", {"tasks": ("mqar",), "variants": ("linformer", "memory_network")}
    )
    told = {
        c.variant: list(measuring.measured(c, CATALOG, lambda: None))
        for c in cells_of(CATALOG, selection)
        if c.variant in ("linformer", "memory_network")
    }
    assert [(r.metric, str(r.status)) for (r,) in told.values()] == [("cell", "unsupported")] * 2
    assert "causal_self" in told["linformer"][0].reason
    assert "nothing in this model gives it" in told["memory_network"][0].reason


def planned(preset: str = "quick", **given: Any) -> list[Cell]:
    return list(cells_of(CATALOG, selection_for(preset, "learning", given)))


def test_the_quick_setting_takes_one_of_each_section() -> None:
    cells = planned()
    assert {cell.extra["task"] for cell in cells} == {"mqar"}
    roles = [cell.extra["role"] for cell in cells]
    assert roles[:4] == ["floor", "floor", "floor", "ceiling"]
    variants = [CATALOG[c.variant] for c in cells if c.extra["role"] == "variant"]
    sections = [variant.metadata.section for variant in variants]
    everything = {v.metadata.section for v in CATALOG.select(kind="attention")}
    assert sorted(sections) == sorted(everything)
    assert {c.variant for c in cells if c.forward == "reference"} == {"hierarchical"}  # refused


def test_the_standard_setting_takes_all_variants() -> None:
    cells = planned("standard", kinds=("connection",))
    assert {cell.extra["depth"] for cell in cells} == {4, 8, 16, 32, 64}
    names = {v.name for v in CATALOG.select(kind="connection")}
    assert {c.variant for c in cells} == {*names, CHANCE, LINEAR}
    assert len(cells) == len(set(cells))


def test_an_option_can_be_swept() -> None:
    cells = planned(variants=("sliding_window",), options={"window": (2, 8)})
    assert [c.case.options for c in cells if c.variant == "sliding_window"] == [
        {"window": 2},
        {"window": 8},
    ]


def test_a_convolution_stands_beside_attention_on_images() -> None:
    assert controls_of(TASKS["digits_rows"], "attention") == (CHANCE, MEAN, LINEAR, CONVOLUTION)
    assert CONVOLUTION not in controls_of(TASKS["mqar"], "attention")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": ("mqr",)}, "no task is called 'mqr'; did you mean mqar?"),
        ({"steps": -1}, "steps: got -1, expected a number of training steps"),
        ({"depths": (0,)}, "depths: got 0, expected integers of at least 1"),
    ],
)
def test_wrong_arguments(given: dict[str, Any], message: str) -> None:
    with pytest.raises(bakeoff.BakeoffError) as caught:
        planned(**given)
    assert message in str(caught.value)
