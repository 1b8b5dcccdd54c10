"""Variants inside real models: what they learned beside softmax, and what a step cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text, names_of
from bakeoff.reports.rows import Row
from bakeoff.reports.section import Section
from bakeoff.reports.trained import BLIND, UNSWAPPED, Paired, Training, parts_of
from bakeoff.reports.units import human, number

SUITE = "applications"
KINDS = ("attention", "activation", "connection")
#: Models of one task, with a score that both have.
COMPARED = (("detr", "deformable_detr", "box_loss"), ("vit", "convnet", "loss"))

_ABOUT = (
    "Each model is trained from random weights for the same steps on the same batches, once as it "
    "is (softmax, its own activation and connection) and once with a variant in every layer. Seeds "
    "are paired: a run differs from its unswapped twin in the variant alone. Untrained: the loss "
    "before the first step. Blind: each example sees the data of another, so that the model learns "
    "what can be known without looking. Floor: the least that any model can expect. A model that "
    "did not, as it is, come half the way from blind to the floor has not learned, and ranks "
    "nothing."
)
_COLUMNS = (
    (
        "loss: after training, less that of the model as it is, in the mean over paired seeds, ± "
        "the 95% interval. Marked = is no difference: the interval holds zero.",
    ),
    (
        "time: of a training step over that of the model as it is, in rounds of both, ± the 95% "
        "interval over seeds; ? where that is wider than a factor of two. The first row is the "
        "model beside its equal.",
    ),
    ("memory: bytes that a step holds at once, over those of the model as it is.",),
    (
        "gradients: the layer with the least gradient norm over the one with the most, in the "
        "first step. Far below 1, some layers hardly hear of the loss.",
    ),
)

Entry = Callable[[Training, str, str], str]


def takes(row: Row) -> bool:
    """Every record of the suite."""
    return bool(row.axes["suite"] == SUITE)


def blocks(rows: Sequence[Row], wrong: Mapping[str, str]) -> Iterator[Block]:
    """One part for each dtype, device and effort."""
    yield Text((_ABOUT,))
    yield Items(_COLUMNS)
    for name, training in parts_of(rows):
        if name:
            yield Heading(3, name)
        yield _baselines(training)
        yield from _comparisons(training)
        for kind in KINDS:
            yield from _kind(kind, training, wrong)


def _baselines(training: Training) -> Grid:
    rows = []
    for model in training.models:
        own, blind = training.of(model, UNSWAPPED), training.of(model, BLIND)
        rate = next((m for m in own.values if m.endswith("_per_second")), "")
        losses = (
            own.mean("loss_before"), blind.mean("loss_after"), own.mean("loss_after"),
            own.mean("floor"),
        )  # fmt: skip
        learned = "yes" if training.has_learned(model) else "no"
        step, speed = own.mean("step_time"), own.mean(rate)
        rows.append(
            (
                Code(model),
                *("-" if value is None else number(value) for value in losses),
                learned,
                "-" if step is None else human(step, "s"),
                "-" if speed is None else _rate(speed, rate),
            )
        )
    headers = ("as it is", "un-\ntrained", "blind", "trained", "floor", "learned", "step")
    return Grid((*headers, "per\nsecond"), tuple(rows))


def _rate(value: float, metric: str) -> str:
    return f"{human(value, '1/s').removesuffix('/s')} {metric.removesuffix('_per_second')}"


def _comparisons(training: Training) -> Iterator[Block]:
    """How long the second model takes to where the first one ends."""
    items = []
    for first, second, score in COMPARED:
        one, other = training.of(first, UNSWAPPED), training.of(second, UNSWAPPED)
        target, curve = one.mean(f"{score}_after"), other.curve(score)
        step, other_step = one.mean("step_time"), other.mean("step_time")
        if target is None or step is None or other_step is None:
            continue
        steps, reached = max(one.curve(score)), other.steps_to(target, score)
        told = (
            Code(first),
            f" is at {score.replace('_', ' ')} {number(target)} after {steps} steps, "
            f"{human(steps * step, 's')}. ",
            Code(second),
        )
        if reached is None:
            last = number(curve[max(curve)])
            items.append((*told, f" does not get there in {max(curve)}: it ends at {last}."))
        else:
            seconds = human(reached * other_step, "s")
            items.append((*told, f" is there after {reached:.0f}, {seconds}."))
    if items:
        yield Heading(3, "One model beside another")
        yield Items(tuple(items))


def _kind(kind: str, training: Training, wrong: Mapping[str, str]) -> Iterator[Block]:
    found = training.variants(kind)
    bad = {each.label for each in found if each.label.partition(" ")[0] in wrong}
    some = dict.fromkeys(each.label for each in found if each.values)
    labels = [label for label in some if label not in bad]
    models = [m for m in training.models if any(t.model == m and t.values for t in found)]
    ranked = [model for model in models if training.has_learned(model)]
    if not found:
        return
    yield Heading(3, f"{kind.capitalize()} in models")
    if ranked:
        yield _grid("loss", labels, ranked, training, _loss)
    if left := [model for model in models if model not in ranked]:
        yield Text(("Not ranked, as the model has not learned as it is: ", *names_of(left), "."))
    if models:
        yield _grid("time", [UNSWAPPED, *labels], models, training, _time)
        yield _grid("memory", labels, models, training, _memory)
        yield _grid("gradients", [UNSWAPPED, *labels], models, training, _slopes)
    if bad:
        yield Text(("Left out, wrong: ", *names_of(sorted(bad)), "."))
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in found:
        if each.refusal:
            reasons.setdefault((each.label, each.refusal), []).append(each.model)
    if reasons:
        yield Items(
            tuple(
                (Code(label), " in ", *names_of(where), ": ", Code(reason))
                for (label, reason), where in reasons.items()
            )
        )


def _grid(
    what: str, labels: Sequence[str], models: Sequence[str], training: Training, entry: Entry
) -> Grid:
    rows = tuple(
        (Code(label), *(entry(training, model, label) for model in models)) for label in labels
    )
    return Grid((what, *models), rows)


def _refusal(training: Training, model: str, label: str) -> str:
    return training.of(model, label).refusal.partition(":")[0] or "-"


def _loss(training: Training, model: str, label: str) -> str:
    pairs = training.pairs(model, label, "loss_after")
    if not pairs:
        return _refusal(training, model, label)
    found = Paired.of([own - base for own, base in pairs])
    if math.isinf(found.half):
        return f"{found.value:+.2f}"
    return f"{found.value:+.2f} ±{found.half:.2f}{' =' if found.is_nothing else ''}"


def _time(training: Training, model: str, label: str) -> str:
    ratios = training.of(model, label).values.get("time_ratio", {}).values()
    if not ratios:
        return _refusal(training, model, label)
    found = Paired.of([math.log(ratio) for ratio in ratios])
    if math.isinf(found.half):
        return f"{math.exp(found.value):.2f}"
    known = found.half <= math.log(2)
    share = f"±{100 * math.expm1(found.half):.0f}%" if known else "?"
    return f"{math.exp(found.value):.2f} {share}"


def _memory(training: Training, model: str, label: str) -> str:
    pairs = training.pairs(model, label, "peak_bytes")
    if not pairs:
        return _refusal(training, model, label)
    return f"{fmean(own / base for own, base in pairs):.2f}"


def _slopes(training: Training, model: str, label: str) -> str:
    one = training.of(model, label)
    norms = [one.mean(metric) or 0.0 for metric in one.values if metric.startswith("grad_norm ")]
    if not norms:
        return _refusal(training, model, label)
    return number(min(norms) / max(norms)) if max(norms) else "0"


SECTION = Section("Inside real models", 70, takes, blocks)
