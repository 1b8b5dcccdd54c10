"""The tasks: the same for the same seed, right by an independent solver, and as hard as said."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from bakeoff.registry.errors import UnknownNameError
from bakeoff.suites.learning.task import IGNORED, SPLITS, Examples, Task
from bakeoff.suites.learning.tasks import (
    all_tasks,
    characters,
    dates,
    digits,
    listops,
    tasks_called,
)
from bakeoff.suites.learning.training import evaluated

TASKS = all_tasks()
every = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
COUNT = 400


def same(one: Examples, other: Examples) -> bool:
    return torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


@every
def test_examples_are_what_the_task_says(task: Task) -> None:
    examples = task.make("train", COUNT, 0)
    size = (task.length, task.entries) if task.numeric else (task.length,)
    assert examples.x.shape[1:] == size
    if not task.numeric:
        assert 0 <= int(examples.x.min()) <= int(examples.x.max()) < task.entries
    if task.answers != "number":
        asked = examples.y[examples.y != IGNORED]
        assert len(asked)
        assert 0 <= int(asked.min()) <= int(asked.max()) < task.outputs


@every
def test_the_same_seed_makes_the_same_examples(task: Task) -> None:
    for split in SPLITS:
        assert same(task.make(split, COUNT, 3), task.make(split, COUNT, 3))
    if task.name.startswith("digits"):
        return  # there are no other images
    assert not same(task.make("train", COUNT, 3), task.make("train", COUNT, 4))


@pytest.mark.parametrize("name", [name for name in TASKS if name != "waves"])
def test_no_example_is_in_two_splits(name: str) -> None:
    task = TASKS[name]

    def seen(split: str) -> set[bytes]:
        examples = task.make(split, 2000, 0)
        rows = zip(examples.x, examples.y, strict=True)
        return {x.numpy().tobytes() + y.numpy().tobytes() for x, y in rows}

    train, validation, test = map(seen, SPLITS)
    # Expressions of eight tokens are few enough to be drawn twice, and prose repeats itself.
    most = 0.02 * len(test) if name in ("listops", "characters") else 0
    assert len(train & test) <= most
    assert len(validation & test) <= most
    assert len(train & validation) <= most


def test_no_day_and_no_block_of_text_is_in_two_splits() -> None:
    days = [set(dates._days(split)) for split in SPLITS]
    assert sum(map(len, days)) == len(set().union(*days)) == 21915
    blocks = [set((characters._windows(split) // characters.BLOCK).tolist()) for split in SPLITS]
    assert sum(map(len, blocks)) == len(set().union(*blocks))
    last = (characters._windows("train") + characters.WINDOW) // characters.BLOCK % 10
    assert int(last.max()) < 8  # the character that is asked for last, too


def recalled(x: list[int]) -> list[int]:
    pairs = dict(zip(x[0:8:2], x[1:8:2], strict=True))
    return [pairs[token] if i >= 8 and token else IGNORED for i, token in enumerate(x)]


def copied(x: list[int]) -> list[int]:
    return [IGNORED] * 12 + x[:12]


def selected(x: list[int]) -> list[int]:
    return [IGNORED] * 18 + [token for token in x[:18] if token != 0]


def induced(x: list[int]) -> list[int]:
    return [IGNORED] * 31 + [x[x.index(1) + 1]]


SOLVERS: dict[str, Callable[[list[int]], list[int]]] = {
    "mqar": recalled,
    "copying": copied,
    "selective_copying": selected,
    "induction": induced,
    "sorting": sorted,
}


@pytest.mark.parametrize("name", SOLVERS)
def test_answers_are_right(name: str) -> None:
    examples = TASKS[name].make("test", COUNT, 0)
    for x, y in zip(examples.x.tolist(), examples.y.tolist(), strict=True):
        assert SOLVERS[name](x) == y


def test_each_key_is_asked_for_and_its_value_stands_nowhere_else() -> None:
    examples = TASKS["mqar"].make("test", COUNT, 0)
    assert ((examples.y != IGNORED).sum(-1) == 4).all()
    answers = examples.y.clamp(min=0)
    for x, y in zip(examples.x, answers, strict=True):
        assert all((x == answer).sum() == 1 for answer in y[y > 0])


def evaluate(tokens: list[str]) -> int:
    """ListOps by a stack, and with medians by sorting."""
    stack: list[list[str | int]] = [[]]
    for token in tokens:
        if token == "]":
            operation, *values = stack.pop()
            numbers = sorted(int(value) for value in values)
            half = len(numbers) // 2
            middle = numbers[half] if len(numbers) % 2 else (numbers[half - 1] + numbers[half]) // 2
            found = {
                "[MIN": numbers[0],
                "[MAX": numbers[-1],
                "[MED": middle,
                "[SM": sum(numbers) % 10,
            }
            stack[-1].append(found[str(operation)])
        elif token.startswith("["):
            stack.append([token])
        else:
            stack[-1].append(int(token))
    ((value,),) = stack
    return int(value)


def test_listops() -> None:
    examples = TASKS["listops"].make("test", COUNT, 0)
    lengths, operations = set(), set()
    for x, y in zip(examples.x.tolist(), examples.y.tolist(), strict=True):
        tokens = [listops.TOKENS[i] for i in x if listops.TOKENS[i]]
        assert evaluate(tokens) == y
        lengths.add(len(tokens))
        operations |= {token for token in tokens if token.startswith("[")}
    assert min(lengths) >= 8
    assert max(lengths) <= 32
    assert operations == set(listops.OPERATIONS)


def test_dates() -> None:
    examples = TASKS["dates"].make("test", COUNT, 0)
    assert examples.given is not None
    forms = set()
    for x, y, given in zip(examples.x.tolist(), examples.y, examples.given, strict=True):
        text = "".join(dates.ALPHABET[i] for i in x).rstrip("\0")
        found = {}
        for form in dates.FORMS:
            try:
                found[form] = datetime.datetime.strptime(text, form).date().isoformat()
            except ValueError:
                continue
        answer = "".join(dates.ALPHABET[i] for i in y.tolist())
        assert set(found.values()) == {answer}, text  # in whichever form it can be read
        forms |= set(found)
        assert given[0] == dates.START
        assert torch.equal(given[1:], y[:-1])
    assert forms == set(dates.FORMS)


def test_digits() -> None:
    found = load_digits()
    rows = [digits.rows(split, 2000, 0) for split in SPLITS]
    assert sum(map(len, rows)) == len(found.target) == 1797
    test = [i for i in range(1797) if i % 10 >= 8]
    assert rows[2].y.tolist() == found.target[test].tolist()
    assert torch.equal(digits.pixels("test", 9, 0).x.flatten(), rows[2].x[:9].flatten())
    patch = digits.patches("test", 9, 0).x[0, 1]
    assert torch.equal(patch, rows[2].x[0, :2, 2:4].flatten())  # the second of the first row


def test_characters() -> None:
    examples = TASKS["characters"].make("test", COUNT, 0)
    assert torch.equal(examples.x[:, 1:], examples.y[:, :-1])
    text = "".join(characters.ALPHABET[i] for i in examples.x.flatten().tolist())
    assert text.count(" the ") > 20


def test_waves() -> None:
    examples = TASKS["waves"].make("test", COUNT, 0)
    for x, y in zip(examples.x.flatten().tolist(), examples.y.flatten().tolist(), strict=True):
        expected = sum(math.sin(2 * math.pi * k * x + k) for k in (1, 3, 6)) / math.sqrt(3)
        assert y == pytest.approx(expected, abs=1e-5)


#: Whoever guesses among the answers that there are is right so often.
GUESSED = {
    "mqar": 1 / 32,
    "copying": 1 / 16,
    "selective_copying": 1 / 16,
    "induction": 1 / 16,
    "digits": 1 / 10,
    "digits_rows": 1 / 10,
    "digits_patches": 1 / 10,
    "dates": 0.0,
    "waves": 0.0,
}


@pytest.mark.parametrize("name", GUESSED)
def test_chance_is_what_guessing_comes_to(name: str) -> None:
    task, expected = TASKS[name], GUESSED[name]
    asked = 356 if name.startswith("digits") else 4096
    error = math.sqrt(max(expected * (1 - expected), 1e-3) / asked)
    assert task.chance() == pytest.approx(expected, abs=4 * error)
    if task.answers != "number":
        examples = task.make("test", 4096, 0)
        guess = torch.randint(task.outputs, examples.y.shape)
        assert task.share_right(guess, examples.y) == pytest.approx(expected, abs=5 * error + 0.03)


@every
def test_chance_is_far_from_the_target(task: Task) -> None:
    assert task.chance() < task.target / 2


class Knowing(nn.Module):
    """A model that is given the answers."""

    def __init__(self, task: Task, examples: Examples) -> None:
        super().__init__()
        self.task, self.y, self.at = task, examples.y, 0

    def forward(self, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        y = self.y[self.at : self.at + len(x)]
        self.at += len(x)
        if self.task.answers == "number":
            return y
        return 50.0 * nn.functional.one_hot(y.clamp(min=0), self.task.outputs)


@every
def test_who_knows_the_answers_is_always_right(task: Task) -> None:
    examples = task.make("test", COUNT, 0)
    loss, score = evaluated(Knowing(task, examples), task, examples)
    assert score == 1.0
    assert loss < 1e-6


def test_one_wrong_answer_spoils_a_whole() -> None:
    task = TASKS["dates"]
    examples = task.make("test", 10, 0)
    answers = examples.y.clone()
    answers[0, 3] += 1
    assert task.share_right(answers, examples.y) == 0.9


def test_a_misspelt_task() -> None:
    with pytest.raises(UnknownNameError, match="no task is called 'mqr'; did you mean mqar"):
        tasks_called(["mqr"])
