"""The learning suite: who learned what, between a floor and a ceiling; curves; and depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from bakeoff.reports.blocks import Block, Code, Figure, Grid, Heading, Items, Text, names_of
from bakeoff.reports.failures import refusals_of
from bakeoff.reports.learned import (
    SCORES,
    Comparison,
    Learner,
    comparisons_of,
    curve_of,
    refusal_of,
)
from bakeoff.reports.rows import Row
from bakeoff.reports.section import Section
from bakeoff.reports.units import human, number
from bakeoff.reports.words import plural

__all__ = ["SECTION"]

#: More lines than this can't be told apart.
MOST_LINES = 8
_LEGEND = (
    "Scores are means over seeds on test data, ± half of the 95% interval, each at the learning "
    "rate that did best on validation data. Above the floor: the interval lies above that of the "
    "best floor (chance, the uniform mean, the linear network). Floors and controls stand last, "
    "and are not ranked. Solved: every run reached the target on validation data; steps are those "
    "until then. Time is the processor's, of one run."
)


def _blocks(rows: Sequence[Row], wrong: Mapping[str, str]) -> Iterator[Block]:
    yield Text((_LEGEND,))
    found = sorted(comparisons_of(rows, wrong), key=_together)
    for _, group in groupby(found, key=_together):
        same = sorted(group, key=lambda one: one.depth)
        yield from _by_depth(same) if len(same) > 1 else _one(same[0])
        yield from _remarks(same)


def _together(one: Comparison) -> tuple[str, str, int, int]:
    return (one.kind, one.task, one.steps, one.seeds)


def _heading(one: Comparison) -> Iterator[Block]:
    yield Heading(3, f"{one.task.replace('_', ' ')}: {one.kind}")
    floors = [x.score.reason for x in one.learners if x.role == "floor" and x.score]
    asked = next(filter(None, floors), "")
    yield Text((f"{asked} {plural(one.seeds, 'run')} of at most {one.steps} steps.".strip(),))


def _one(one: Comparison) -> Iterator[Block]:
    """All that is known of each learner, and the loss curves of some."""
    yield from _heading(one)
    yield from _verdicts([one])
    yield Grid(
        ("learner", _score_name(one), "standing", "steps to\ntarget", "rate", "time"),
        tuple(
            (
                Code(learner.name),
                _score(learner),
                _standing(one, learner),
                _steps(one, learner),
                _told(learner, "learning_rate"),
                _told(learner, "train_time", "s"),
            )
            for learner in one.learners
            if learner.value is not None
        ),
        controls=_controls([one]),
    )
    yield Figure(_curves(one))


def _verdicts(same: Sequence[Comparison]) -> Iterator[Block]:
    """A task whose ceiling fails says so, with the depths at which it does."""
    said: dict[tuple[str, ...], list[int]] = {}
    for one in same:
        if told := tuple(_failing(one)):
            said.setdefault(told, []).append(one.depth)
    for told, depths in said.items():
        layers = ", ".join(map(str, depths[:-1])) + " and " * (len(depths) > 1) + str(depths[-1])
        yield Text((f"With {layers} layers ", *told))


def _failing(one: Comparison) -> Iterator[str]:
    ceiling, floor = one.ceiling, one.floor
    if ceiling is None or ceiling.value is None:
        yield "no ceiling was measured: the order says little."
    elif floor and not one.ranks:
        yield "the ceiling, "
        yield Code(ceiling.name)
        yield ", is not above the best floor, "
        yield Code(floor.name)
        yield ": the order of what is near it is noise."
    elif ceiling.solved < 1:
        yield "the ceiling, "
        yield Code(ceiling.name)
        yield (
            ", did not reach the target in every run: the task is not solved within this budget, "
            "and scores only tell how far each came."
        )


def _by_depth(same: Sequence[Comparison]) -> Iterator[Block]:
    """Scores and training losses by depth, as tables and as a figure."""
    yield from _heading(same[0])
    yield from _verdicts(same)
    learners = [x for one in reversed(same) for x in one.learners]
    learners.sort(key=lambda x: not x.ranks)
    names = list(dict.fromkeys(x.name for x in learners))
    found = [{x.name: x for x in one.learners} for one in same]
    columns = ("learner", *(str(one.depth) for one in same))

    def grid(title: str, text: Mapping[str, Any]) -> Grid:
        rows = [(Code(name), *text[name]) for name in names if any(t != "-" for t in text[name])]
        return Grid(columns, tuple(rows), title, controls=_controls(same))

    yield Text((f"{_score_name(same[0]).capitalize()} by the number of layers.",))
    scores = {n: [_score(at[n], 2) if n in at else "-" for at in found] for n in names}
    yield grid("Table: score", scores)
    yield Text(("Training loss at the end, by the number of layers.",))
    losses = {n: [_told(at[n], "train_loss") if n in at else "-" for at in found] for n in names}
    yield Figure(_degradation(same))
    yield grid("Table: training loss", losses)


def _controls(same: Sequence[Comparison]) -> tuple[str, ...]:
    return tuple({x.name: None for one in same for x in one.learners if not x.ranks})


def _remarks(same: Sequence[Comparison]) -> Iterator[Block]:
    """What has to be said of single learners: options, divergence, refusals, what is wrong."""
    learners = [x for one in same for x in one.learners]
    remarks: dict[str, list[str]] = {}
    for x in learners:
        if x.score and x.score.reason and x.role in ("variant", "ceiling"):
            remarks.setdefault(x.score.reason, []).append(x.name)
    items = [
        (*names_of([Code(n) for n in dict.fromkeys(names)]), ": ", Code(told))
        for told, names in remarks.items()
    ]
    items += [
        (Code(refusal.reason), ": ", *names_of(refusal.labels))
        for refusal in refusals_of(filter(None, map(refusal_of, learners)))
    ]
    if wrong := [name for one in same for name in one.wrong]:
        items.append(("Left out, wrong: ", *names_of(list(dict.fromkeys(wrong)))))
    if items:
        yield Items(tuple(items))


def _score_name(one: Comparison) -> str:
    metrics = {m for x in one.learners for m in x.rows}
    return next((name for metric, name in SCORES.items() if metric in metrics), "score")


def _score(learner: Learner, digits: int = 3) -> str:
    row = learner.score
    if row is None or row.value is None:
        return refusal.status if (refusal := refusal_of(learner)) else "-"
    told = f"{row.value:.{digits}f}"
    if row.low is not None and row.high is not None:
        told += f" ±{(row.high - row.low) / 2:.{digits}f}"
    return told if row.status == "ok" else f"{told} {row.status}"


def _standing(one: Comparison, learner: Learner) -> str:
    if learner.role in ("floor", "ceiling"):
        return learner.role
    if learner.solved == 1:
        return "solved"
    above, below = learner.above(one.floor), one.floor and one.floor.above(learner)
    if above is None:
        return ""
    return "above the floor" if above else "below the floor" if below else "near the floor"


def _steps(one: Comparison, learner: Learner) -> str:
    steps = learner.number("steps_to_target")
    if steps is None:
        return "-"
    return f"{steps:.0f}" if learner.solved == 1 else f"> {steps:.0f}"


def _told(learner: Learner, metric: str, unit: str = "") -> str:
    value = learner.number(metric)
    return "-" if value is None else human(value, unit) if unit else number(value)


def _curves(one: Comparison) -> dict[str, Any]:
    """Validation losses: the controls, the ceiling, and the best and the worst variants."""
    with_curve = [x for x in one.learners if curve_of(x, "validation_loss")]
    beside = [x for x in with_curve if x.role != "variant"]
    variants = [x for x in with_curve if x.role == "variant"]
    room = max(2, MOST_LINES - len(beside))
    shown = variants if len(variants) <= room else variants[: room - 2] + variants[-2:]
    values = [
        {"name": x.name, "role": x.role, "step": step, "loss": loss}
        for x in (*beside, *shown)
        for step, loss in curve_of(x, "validation_loss")
    ]
    x_axis = {"field": "step", "type": "quantitative", "axis": {"title": "training steps"}}
    return _lines(values, x_axis, "loss", "validation loss (mean over seeds)")


def _degradation(same: Sequence[Comparison]) -> dict[str, Any]:
    """Training loss against depth: where it rises, what is deeper trains worse."""
    values = [
        {"name": x.name, "role": x.role, "depth": one.depth, "loss": loss}
        for one in same
        for x in one.learners
        if (loss := x.number("train_loss")) is not None
    ]
    axis = {"title": "layers", "values": [one.depth for one in same], "format": "d"}
    x_axis = {
        "field": "depth",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "nice": False},
        "axis": axis,
    }
    return _lines(values, x_axis, "loss", "training loss at the end")


def _lines(
    values: Sequence[Mapping[str, Any]], x: Mapping[str, Any], field: str, title: str
) -> dict[str, Any]:
    names = sorted({value["name"] for value in values})
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": 300,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": list(values)},
        "mark": {"type": "line", "strokeWidth": 1.5, "point": {"filled": True, "size": 30}},
        "encoding": {
            "x": x,
            "y": {"field": field, "type": "quantitative", "axis": {"title": title}},
            "color": {"field": "name", "type": "nominal", "sort": names, "legend": {"title": None}},
            "strokeDash": {
                "field": "role",
                "type": "nominal",
                "scale": {
                    "domain": ["variant", "ceiling", "floor", "control"],
                    "range": [[1, 0], [1, 0], [4, 3], [2, 2]],
                },
                "legend": None,
            },
            "tooltip": [{"field": name} for name in ("name", x["field"], field)],
        },
    }


def _takes(row: Row) -> bool:
    return bool(row.axes["suite"] == "learning")


SECTION = Section("Learning", 20, _takes, _blocks)
