"""A comparison as headings, paragraphs and grids, and as plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text, names_of
from bakeoff.reports.compare.changes import VERDICTS, Change, Side
from bakeoff.reports.compare.comparison import Comparison
from bakeoff.reports.rows import FIXED
from bakeoff.reports.units import human, number
from bakeoff.reports.words import describe, plural, varying

__all__ = ["document", "to_json"]

#: Axes that no reader needs to tell two rows of a table apart.
_UNTOLD = ("suite", "suite_version", "kind", "q_len", "k_len", "value_dim")
#: Rows of one table; the rest is counted, and stands in the JSON.
_MOST = 40
_TIMES = (
    "Times are compared by {by}, between launches (Welch's t of their logarithms; ± is the wider "
    "side of the 95% interval). Better and worse hold for all {count} together with 95% certainty "
    "(Holm's correction) and need a change of more than {threshold}; no difference needs an "
    "interval within that. "
)
_OTHERS = (
    "What is counted (bytes, FLOPs) compares exactly; errors within their budget count from a "
    "change of {threshold} on; a status that became worse always counts."
)
_BY = {
    "ratio": "their ratio to the baseline of the race, the baseline itself by its ratio to a "
    "reference kernel",
    "kernel_ratio": "their ratio to a reference kernel that ran in the same rounds",
    "time": "the clock alone, which wanders with the machine",
}


def document(found: Comparison) -> Iterator[Block]:
    """The blocks of a comparison."""
    yield Heading(1, "bakeoff compare")
    yield Text(("OLD is ", Code(found.old), ", NEW is ", Code(found.new), "."))
    yield from _environments(found)
    yield Text((_method(found),))
    if found.moved:
        told = "The source of these baselines changed, so that their races are compared by the "
        yield Text((told, "ratio to the reference kernel: ", *names_of(found.moved), "."))
    yield Heading(2, "Summary")
    yield Text((_counts(found.changes) + ".",))
    yield from _summary(found)
    for verdict in ("worse", "better", "undecided"):
        yield from _table(verdict, found.of(verdict))
    yield from _not_compared(found.of("can't be compared"))
    yield from _only(found)


def to_json(found: Comparison) -> str:
    """Everything, as one JSON object; numbers that are not finite are null."""
    data = {
        "old": found.old,
        "new": found.new,
        "by": found.by,
        "threshold": found.threshold,
        "correction": {"method": "Holm", "comparisons": found.sampled},
        "environments": [
            {"old": p.old, "new": p.new, "differing": [list(d) for d in p.differing]}
            for p in found.pairing.places
        ],
        "alone": [list(pair) for pair in found.pairing.alone],
        "gone": {suite: list(labels) for suite, labels in found.gone.items()},
        "added": {suite: list(labels) for suite, labels in found.added.items()},
        "sources_changed": sorted(found.sources),
        "changes": [_plain(change) for change in found.changes],
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(change: Change) -> dict[str, Any]:
    sides = {
        name: {
            "value": _finite(side.value), "unit": side.unit, "n": side.n, "status": side.status
        }
        for name, side in (("old", change.old), ("new", change.new))
    }  # fmt: skip
    ratio = change.ratio
    ends: dict[str, float | None] = {}
    if ratio:
        ends = {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "p": ratio.p}
    return {
        "forward": change.rival,
        "metric": change.metric,
        "axes": dict(change.axes),
        **sides,
        **{name: _finite(value) for name, value in ends.items()},
        "verdict": change.verdict,
        "reason": change.reason,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _environments(found: Comparison) -> Iterator[Block]:
    places = found.pairing.places
    differing = {difference: None for place in places for difference in place.differing}
    if not differing:
        yield Text(("The machine and the software are the same on both sides.",))
    else:
        yield Text(("The environments differ; what is said below may be their doing:",))
        yield Items(
            tuple((f"{name}: ", Code(old), " → ", Code(new)) for name, old, new in differing)
        )
    for side, name in found.pairing.alone:
        yield Text((f"Only {side} was measured on ", Code(name), ", which is left out."))


def _method(found: Comparison) -> str:
    told = _TIMES + _OTHERS if found.sampled else _OTHERS
    share = f"{100 * found.threshold:g}%"
    return told.format(by=_BY[found.by], count=found.sampled, threshold=share)


def _counts(changes: Iterable[Change]) -> str:
    verdicts = [change.verdict for change in changes]
    told = [f"{verdicts.count(v)} {v}" for v in VERDICTS if v in verdicts]
    return ", ".join(told) or "Nothing that both files hold can be compared"


def _summary(found: Comparison) -> Iterator[Block]:
    """A row for each variant and suite that has more than what stayed the same."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in found.changes:
        groups.setdefault((str(change.axes["variant"]), change.suite), []).append(change)
    rows, quiet = [], dict[str, None]()
    for (variant, suite), own in sorted(groups.items(), key=lambda group: _badness(group[1])):
        verdicts = [change.verdict for change in own]
        if set(verdicts) == {"no difference"}:
            quiet[variant] = None
            continue
        source = "changed" if variant in found.sources else "same"
        counts = (str(verdicts.count(v) or "-") for v in VERDICTS)
        rows.append((Code(variant), suite, source, *counts))
    headers = ("worse", "better", "un-\ndecided", "no dif-\nference", "can't\nsay")
    if rows:
        yield Grid(("variant", "suite", "source", *headers), tuple(rows))
    for row in rows:
        quiet.pop(row[0], None)
    if quiet:
        yield Text(("No difference in any suite: ", *_some([Code(name) for name in quiet]), "."))


def _badness(changes: Sequence[Change]) -> tuple[int, ...]:
    """Sorts the worst first."""
    verdicts = [change.verdict for change in changes]
    return tuple(-verdicts.count(verdict) for verdict in VERDICTS)


def _table(verdict: str, changes: Sequence[Change]) -> Iterator[Block]:
    if not changes:
        return
    yield Heading(2, f"{verdict.capitalize()} ({len(changes)})")
    fixed = [_fixed(change) for change in changes]
    axes = [axis for axis in varying(fixed) if axis not in ("seq_len", "suite")]
    same = [axis for axis in fixed[0] if axis not in axes and axis != "seq_len"]
    if told := describe(fixed[0], same):
        yield Text((f"All of them: {told}.",))
    by_status = [c for c in changes if c.ratio is None]
    by_value = [c for c in changes if c.ratio is not None]
    if by_status:
        yield Items(tuple(_status_item(change, axes) for change in by_status[:_MOST]))
    if by_value:
        yield Grid(
            ("forward", "metric", "N", "case", "old", "new", "new ÷ old"),
            tuple(_value_row(change, axes) for change in by_value[:_MOST]),
        )
    left = max(0, len(by_status) - _MOST) + max(0, len(by_value) - _MOST)
    if left:
        yield Text((f"And {left} more, which `--format json` holds.",))


def _status_item(change: Change, axes: Sequence[str]) -> tuple[str, ...]:
    case = ", ".join(filter(None, (_length(change), describe(_fixed(change), axes))))
    what = change.suite if change.metric == "cell" else f"{change.suite}, {change.metric}"
    return (Code(change.rival), f" {what}{f', {case}' if case else ''}: ", Code(change.reason))


def _value_row(change: Change, axes: Sequence[str]) -> tuple[str, ...]:
    metric = change.metric.replace("_", " ")
    return (
        Code(change.rival),
        metric,
        str(change.axes["seq_len"] or "-"),
        describe(_fixed(change), axes) or "-",
        _value(change.old),
        _value(change.new),
        _ratio(change),
    )


def _length(change: Change) -> str:
    length = change.axes["seq_len"]
    return f"N = {length}" if length else ""


def _value(side: Side) -> str:
    return human(side.value, side.unit) if side.value is not None else side.status


def _ratio(change: Change) -> str:
    assert change.ratio is not None
    found = change.ratio
    if found.p is None:
        share = 100 * (found.value - 1)
        return f"{share:+.3g}%" if abs(share) < 100 else f"{number(found.value)}×"
    wider = max(found.high / found.value, found.value / found.low) - 1
    return f"{found.value:.3f} ±{100 * wider:.1f}%"


def _fixed(change: Change) -> Mapping[str, Any]:
    """The axes in which rows of a table may differ, without the launch."""
    axes = {axis: change.axes[axis] for axis in (*FIXED, "seq_len") if axis not in _UNTOLD}
    extra = json.loads(change.axes["extra"] or "{}")
    extra.pop("launch", None)
    axes["extra"] = json.dumps(extra) if extra else None
    return {axis: value for axis, value in axes.items() if value not in (None, "{}")}


def _not_compared(changes: Sequence[Change]) -> Iterator[Block]:
    if not changes:
        return
    yield Heading(2, f"Can't be compared ({len(changes)})")
    reasons: dict[tuple[str, str], dict[str, int]] = {}
    for change in changes:
        labels = reasons.setdefault((f"{change.suite}, {change.metric}", change.reason), {})
        labels[change.rival] = labels.get(change.rival, 0) + 1
    yield Items(
        tuple(
            (f"{what}: ", Code(reason), f"; {plural(sum(labels.values()), 'cell')} of ",
             *_some(list(labels)))
            for (what, reason), labels in reasons.items()
        )
    )  # fmt: skip


def _only(found: Comparison) -> Iterator[Block]:
    sides = (("OLD", found.gone), ("NEW", found.added))
    items = [
        (f"{suite}, only {side}: ", *_some(labels))
        for side, labels_of in sides
        for suite, labels in labels_of.items()
    ]
    items += [(f"the whole suite {suite}, only {side}",) for side, suite in found.suites_alone]
    items += [
        (f"cells that only {side} holds, of forwards that both hold: {count}",)
        for side, count in found.unmatched.items()
    ]
    if items:
        yield Heading(2, "Only on one side")
        yield Items(tuple(items))


def _some(labels: Sequence[str], most: int = 6) -> Iterator[str]:
    yield from names_of(labels[:most])
    if len(labels) > most:
        yield f" and {len(labels) - most} more"
