"""Variants inside real models: what they learned beside softmax, and what a step cost."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import special

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text, names_of
from bakeoff.reports.rows import Row, plain
from bakeoff.reports.section import Section
from bakeoff.reports.units import human, number

SUITE = "applications"
UNSWAPPED, BLIND = "(unswapped)", "(blind)"
KINDS = ("attention", "activation", "connection")
#: Models that the textbook compares, with the score that both have.
COMPARED = (("detr", "deformable_detr", "box_loss"), ("vit", "convnet", "loss"))

_ABOUT = (
    "Each model is trained from random weights for the same number of steps on the same batches, "
    "once as it is (softmax, its own activation) and once with a variant in every layer. Seeds are "
    "paired: a run differs from its unswapped twin in the variant alone. Untrained is the loss "
    "before the first step; blind is a model that sees the data of another example, and learns what "
    "can be known without looking; the floor is the least that any model can expect. A model that "
    "has not come half the way from blind to the floor has not learned its task, and ranks nothing."
)
_LOSS = (
    "Loss after training less that of the unswapped model, in the mean over paired seeds, ± the "
    "95% interval. One marked = is no difference: its interval holds zero."
)
_COST = (
    "A training step beside that of the unswapped model: the ratio of times, and of the bytes held "
    "at once. Runs follow one another and are not raced: the suite speed compares times, this says "
    "what is left of a difference in a whole model. One marked = is no difference."
)


@dataclass(frozen=True)
class Trained:
    """The records of one label in one model, by metric and seed."""

    model: str
    label: str
    kind: str
    values: Mapping[str, Mapping[int, float]]
    refusal: str = ""

    def mean(self, metric: str) -> float | None:
        """Over the seeds; None where there is none."""
        found = self.values.get(metric, {}).values()
        return fmean(found) if found else None


@dataclass(frozen=True)
class Paired:
    """The mean over paired seeds, with half of its 95% interval (infinite for one seed)."""

    value: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Paired:
        """Student's t over the values."""
        n = len(values)
        half = math.inf
        if n > 1:
            half = float(special.stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
        return cls(fmean(values), half)


def takes(row: Row) -> bool:
    """Every record of the suite."""
    return row.axes["suite"] == SUITE


def blocks(rows: Sequence[Row], wrong: Mapping[str, str]) -> Iterator[Block]:
    """The section."""
    for effort, own in _by_steps(rows).items():
        trained = list(_trained(own))
        models = list(dict.fromkeys(each.model for each in trained))
        if effort:
            yield Heading(3, effort)
        yield Text((_ABOUT,))
        yield _baselines(models, trained)
        learned = [model for model in models if _has_learned(model, trained)]
        for kind in KINDS:
            rivals = [t for t in trained if t.kind == kind and t.label not in (UNSWAPPED, BLIND)]
            if rivals:
                yield from _kind(kind, rivals, models, learned, trained, wrong)
        yield from _comparisons(trained)
        yield from _gradients(models, trained)


def _by_steps(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Runs of other dtypes, devices or efforts are never mixed; one of a sort needs no heading."""
    parts: dict[str, list[Row]] = {}
    efforts = {}
    for row in rows:
        extra = plain(row.axes["extra"])
        efforts.setdefault(extra.get("model"), set()).add(extra.get("steps"))
    for row in rows:
        extra = plain(row.axes["extra"])
        several = len(efforts[extra.get("model")]) > 1
        steps = f", {extra.get('steps')} steps" if several else ""
        name = f"{row.axes['dtype']} on {row.axes['device']}{steps}"
        parts.setdefault(name, []).append(row)
    return parts if len(parts) > 1 else {"": list(rows)}


def _trained(rows: Iterable[Row]) -> Iterator[Trained]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        control = row.axes["variant"] in (UNSWAPPED, BLIND)
        label = row.axes["variant"] if control else row.rival
        found.setdefault((str(plain(row.axes["extra"]).get("model")), label), []).append(row)
    for (model, label), own in found.items():
        values: dict[str, dict[int, float]] = {}
        for row in own:
            if row.value is not None and row.status == "ok":
                values.setdefault(row.metric, {})[row.axes["seed"]] = row.value
        refusal = next((f"{row.status}: {row.reason}" for row in own if row.status != "ok"), "")
        yield Trained(model, label, own[0].axes["kind"], values, refusal)


def _find(trained: Iterable[Trained], model: str, label: str) -> Trained:
    found = (each for each in trained if (each.model, each.label) == (model, label))
    return next(found, Trained(model, label, "", {}))


def _has_learned(model: str, trained: Sequence[Trained]) -> bool:
    """Whether the unswapped model came half the way from blind to the floor, for sure."""
    after = _find(trained, model, UNSWAPPED).values.get("loss_after", {})
    blind = _find(trained, model, BLIND).mean("loss_after")
    floor = _find(trained, model, UNSWAPPED).mean("floor")
    if blind is None or floor is None or len(after) < 2:
        return False
    loss = Paired.of(list(after.values()))
    return loss.value + loss.half < (blind + floor) / 2


def _baselines(models: Sequence[str], trained: Sequence[Trained]) -> Grid:
    rows = []
    for model in models:
        own, blind = _find(trained, model, UNSWAPPED), _find(trained, model, BLIND)
        step = own.mean("step_time")
        rate = next((m for m in own.values if m.endswith("_per_second")), "")
        rows.append(
            (
                Code(model),
                *(
                    "-" if value is None else number(value)
                    for value in (
                        own.mean("loss_before"), blind.mean("loss_after"), own.mean("loss_after"),
                        own.mean("floor"),
                    )
                ),
                "yes" if _has_learned(model, trained) else "no",
                "-" if step is None else human(step, "s"),
                _rate(own.mean(rate), rate),
            )
        )  # fmt: skip
    headers = ("model as it is", "untrained", "blind", "trained", "floor", "learned", "step")
    return Grid((*headers, "per second"), tuple(rows))


def _rate(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{human(value, '1/s').removesuffix('/s')} {metric.removesuffix('_per_second')}"


def _kind(
    kind: str,
    rivals: Sequence[Trained],
    models: Sequence[str],
    learned: Sequence[str],
    trained: Sequence[Trained],
    wrong: Mapping[str, str],
) -> Iterator[Block]:
    labels = [label for label in dict.fromkeys(t.label for t in rivals) if not _is(label, wrong)]
    measured = [model for model in models if any(t.model == model for t in rivals)]
    ranked = [model for model in measured if model in learned]
    yield Heading(3, f"{kind.capitalize()} in models")
    if ranked:
        yield Text((_LOSS,))
        yield _grid("loss", labels, ranked, trained, _loss)
    if left := [model for model in measured if model not in ranked]:
        yield Text(("Not ranked, since the model as it is has not learned: ", *names_of(left), "."))
    yield Text((_COST,))
    yield _grid("time", labels, measured, trained, _time)
    yield _grid("peak memory", labels, measured, trained, _memory)
    if unranked := sorted({t.label for t in rivals if _is(t.label, wrong)}):
        yield Text(("Left out, wrong: ", *names_of(unranked), "."))
    reasons: dict[str, list[str]] = {}
    for each in rivals:
        if each.refusal:
            reasons.setdefault(f"{each.label}\0{each.refusal}", []).append(each.model)
    if reasons:
        yield Items(
            tuple(
                (Code(label), " in ", *names_of(found), ": ", Code(reason))
                for (label, _, reason), found in ((k.partition("\0"), v) for k, v in reasons.items())
            )
        )


def _is(label: str, wrong: Mapping[str, str]) -> bool:
    return label.partition(" ")[0] in wrong


def _grid(what, labels, models, trained, entry) -> Grid:  # type: ignore[no-untyped-def]
    rows = tuple(
        (Code(label), *(entry(trained, model, label) for model in models)) for label in labels
    )
    return Grid((what, *models), rows)


def _pairs(
    trained: Sequence[Trained], model: str, label: str, metric: str
) -> list[tuple[float, float]]:
    own = _find(trained, model, label).values.get(metric, {})
    base = _find(trained, model, UNSWAPPED).values.get(metric, {})
    return [(own[seed], base[seed]) for seed in own if seed in base]


def _loss(trained: Sequence[Trained], model: str, label: str) -> str:
    pairs = _pairs(trained, model, label, "loss_after")
    if not pairs:
        return _find(trained, model, label).refusal.partition(":")[0] or "-"
    found = Paired.of([own - base for own, base in pairs])
    if not math.isfinite(found.half):
        return f"{found.value:+.2f}"
    return f"{found.value:+.2f} ±{found.half:.2f}{_same(found)}"


def _time(trained: Sequence[Trained], model: str, label: str) -> str:
    pairs = _pairs(trained, model, label, "step_time")
    if not pairs:
        return "-"
    found = Paired.of([math.log(own / base) for own, base in pairs])
    if not math.isfinite(found.half):
        return f"{math.exp(found.value):.2f}"
    return f"{math.exp(found.value):.2f} ±{100 * math.expm1(found.half):.0f}%{_same(found)}"


def _memory(trained: Sequence[Trained], model: str, label: str) -> str:
    pairs = _pairs(trained, model, label, "peak_bytes")
    return f"{fmean(own / base for own, base in pairs):.2f}" if pairs else "-"


def _same(found: Paired) -> str:
    return " =" if abs(found.value) <= found.half else ""


def _comparisons(trained: Sequence[Trained]) -> Iterator[Block]:
    """How long the second model takes to the loss at which the first one ends."""
    items = []
    for first, second, score in COMPARED:
        one, other = (_find(trained, model, UNSWAPPED) for model in (first, second))
        target, step = one.mean(f"{score}_after"), one.mean("step_time")
        other_step = other.mean("step_time")
        if target is None or step is None or other_step is None:
            continue
        curve, whole = _curve(other, score), max(_curve(one, score))
        reached = _steps_to(target, curve)
        name = score.replace("_", " ")
        told: tuple[str, ...] = (Code(first), f" ends at {name} {number(target)} after {whole} steps "
                f"({human(whole * step, 's')}); ", Code(second))  # fmt: skip
        if reached is None:
            ended = number(curve[max(curve)])
            items.append((*told, f" does not reach it in {max(curve)} steps and ends at {ended}."))
        else:
            seconds = human(reached * other_step, "s")
            items.append((*told, f" is there after {reached:.0f} steps ({seconds})."))
    if items:
        yield Heading(3, "One model beside another")
        yield Items(tuple(items))


def _curve(trained: Trained, score: str) -> dict[int, float]:
    """By step the mean over seeds."""
    names = {0: f"{score}_before"}
    for metric in trained.values:
        if found := re.fullmatch(rf"{score}_at_(\d+)", metric):
            names[int(found[1])] = metric
    steps = sorted(names)
    apart = steps[1] - steps[0] if len(steps) > 1 else 1
    names[steps[-1] + apart] = f"{score}_after"
    means = {step: trained.mean(metric) for step, metric in sorted(names.items())}
    return {step: value for step, value in means.items() if value is not None}


def _steps_to(target: float, curve: Mapping[int, float]) -> float | None:
    """On a line between the looks that lie about the target; None where it is not reached."""
    before: tuple[int, float] | None = None
    for step, value in curve.items():
        if value <= target:
            if before is None:
                return float(step)
            share = (before[1] - target) / (before[1] - value)
            return before[0] + share * (step - before[0])
        before = step, value
    return None


def _gradients(models: Sequence[str], trained: Sequence[Trained]) -> Iterator[Block]:
    """First and last layer of each model: how much less the first one hears."""
    rows = []
    for model in models:
        for each in (t for t in trained if t.model == model and t.label != BLIND):
            layers = [m for m in each.values if m.startswith("grad_norm ")]
            if layers:
                norms = [each.mean(metric) or 0.0 for metric in layers]
                low, high = min(norms), max(norms)
                where = layers[norms.index(low)].removeprefix("grad_norm ")
                share = "0" if not high else number(low / high)
                rows.append((Code(f"{model}: {each.label}"), number(low), number(high), share, where))
    if rows:
        yield Heading(3, "Gradient norms by layer, in the first step")
        headers = ("model and variant", "least", "most", "share", "the least is in")
        yield Grid(headers, tuple(rows), title="Gradient norms")


SECTION = Section("Inside real models", 70, takes, blocks)
