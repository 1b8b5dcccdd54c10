"""What a report says of learning: who stands where between floor and ceiling, curves, and depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic import ENVIRONMENT

from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.reports.blocks import Block, Figure, Grid, Items, Text
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import document
from bakeoff.reports.text import terminal
from bakeoff.suites.environment import digest_of
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.store import Results, Store

Found = tuple[Cell, list[Record]]


def cell(label: str, role: str, kind: str = "attention", depth: int = 2) -> Cell:
    variant, _, forward = label.partition(":")
    case = Case(kind=kind, shape=FeatureShape(16, 32, 64), direction="training")
    extra = {"task": "mqar", "depth": depth, "steps": 400, "seeds": "0,1,2", "role": role}
    return Cell("learning", 1, variant, forward or "control", case, extra)


def learner(
    label: str, score: float, role: str = "variant", half: float = 0.01, **more: Any
) -> Found:
    solved, loss = more.pop("solved", 0.0), more.pop("loss", 1.0)
    told = more.pop("told", "")
    own = cell(label, role, **more)
    ends = {"low": score - half, "high": score + half, "n": 3}
    curve = "1:4.0 200:2.0 400:1.0"
    return own, [
        Record(own, "task_accuracy", score, reason=told, **ends),
        Record(own, "solved", solved, n=3),
        Record(own, "steps_to_target", 400 - 200 * solved, n=3),
        Record(own, "train_loss", loss, "nats", reason=curve),
        Record(own, "validation_loss", loss, "nats", reason=curve),
        Record(own, "learning_rate", 3e-3),
        Record(own, "train_time", 2.5, "s"),
    ]


def blocks(path: Path, found: Sequence[Found]) -> list[Block]:
    with Store(path / "results.sqlite") as store:
        for own, records in found:
            identity = Identified(digest_of(own.axes()), "", "", ENVIRONMENT)
            store.add(identity, own, records)
    contents = contents_of(Results(path / "results.sqlite"))
    made = list(document(contents, wide=False))
    assert all(len(line) <= 80 for line in terminal(made).splitlines())
    return made


def texts(made: Sequence[Block]) -> str:
    found = ["".join(block.pieces) for block in made if isinstance(block, Text)]
    items = [block.items for block in made if isinstance(block, Items)]
    return "\n".join(found + ["".join(item) for group in items for item in group])


FLOORS = [
    learner("(chance)", 0.03, "floor", told="Which value?"),
    learner("(uniform mean)", 0.25, "floor"),
]
CEILING = learner("scaled_dot_product:sdpa", 0.99, "ceiling", solved=1.0)


def test_between_floor_and_ceiling(tmp_path: Path) -> None:
    refused = cell("linformer:sdpa", "variant")
    made = blocks(
        tmp_path,
        [
            *FLOORS,
            learner("sliding_window:chunked", 0.1, told="window=4, since …"),
            learner("performer:linear", 0.6),
            learner("hard:gathered", 0.27, half=0.2),
            learner("rotary:sdpa", 0.995, solved=1.0),
            CEILING,
            (refused, [whole_cell(refused, Status.UNSUPPORTED, "it is not causal")]),
        ],
    )
    (grid,) = (block for block in made if isinstance(block, Grid))
    rows = [(row[0], row[2], row[3]) for row in grid.rows]
    assert rows == [
        ("rotary:sdpa", "solved", "200"),
        ("scaled_dot_product:sdpa", "ceiling", "200"),
        ("performer:linear", "above the floor", "> 400"),
        ("hard:gathered", "near the floor", "> 400"),
        ("sliding_window:chunked", "below the floor", "> 400"),
        ("(uniform mean)", "floor", "> 400"),
        ("(chance)", "floor", "> 400"),
    ]
    told = texts(made)
    assert "Which value? 3 runs of at most 400 steps." in told
    assert "it is not causal: linformer:sdpa" in told
    assert "sliding_window:chunked: window=4, since …" in told
    assert "noise" not in told
    (figure,) = (block for block in made if isinstance(block, Figure))
    drawn = {(v["name"], v["step"], v["loss"]) for v in figure.spec["data"]["values"]}
    assert ("performer:linear", 200, 2.0) in drawn
    assert {name for name, *_ in drawn} >= {"(uniform mean)", "scaled_dot_product:sdpa"}


@pytest.mark.parametrize(
    ("ceiling", "told"),
    [
        (
            learner("scaled_dot_product:sdpa", 0.26, "ceiling"),
            "the order of what is near it is noise",
        ),
        (learner("scaled_dot_product:sdpa", 0.6, "ceiling"), "only tell how far each came"),
        (None, "no ceiling was measured"),
    ],
    ids=["fails", "is slow", "is missing"],
)
def test_a_ceiling_that_fails_says_so(tmp_path: Path, ceiling: Found | None, told: str) -> None:
    found = [*FLOORS, learner("rotary:sdpa", 0.3), *([ceiling] if ceiling else [])]
    assert told in texts(blocks(tmp_path, found))


def test_a_run_that_diverged_is_told(tmp_path: Path) -> None:
    own, records = learner("rotary:sdpa", 0.03, told="diverged at learning rate 0.01: seed 0: …")
    records[0] = Record(own, "task_accuracy", 0.03, status=Status.FAILED, reason=records[0].reason)
    made = blocks(tmp_path, [*FLOORS, CEILING, (own, records)])
    (grid,) = (block for block in made if isinstance(block, Grid))
    assert {row[0]: row[1] for row in grid.rows}["rotary:sdpa"] == "0.030 failed"
    assert "rotary:sdpa: diverged at learning rate 0.01" in texts(made)


def test_degradation_with_depth(tmp_path: Path) -> None:
    made = blocks(
        tmp_path,
        [
            learner(label, score, role, kind="connection", depth=depth, loss=loss)
            for label, role, results in (
                ("plain:reference", "variant", {4: (0.95, 0.03), 64: (0.1, 2.3)}),
                ("residual:reference", "ceiling", {4: (0.95, 0.04), 64: (0.97, 0.02)}),
            )
            for depth, (score, loss) in results.items()
        ],
    )
    scores, losses = (block for block in made if isinstance(block, Grid))
    assert scores.headers == losses.headers == ("learner", "4", "64")
    assert scores.rows == (
        ("residual:reference", "0.95 ±0.01", "0.97 ±0.01"),
        ("plain:reference", "0.95 ±0.01", "0.10 ±0.01"),
    )
    assert {row[0]: row[1:] for row in losses.rows}["plain:reference"] == ("0.0300", "2.30")
    (figure,) = (block for block in made if isinstance(block, Figure))
    assert {"name": "plain:reference", "role": "variant", "depth": 64, "loss": 2.3} in (
        figure.spec["data"]["values"]
    )
