"""What became of one metric of one cell, from one results file to the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bakeoff.reports.compare.statistics import (
    LEVEL,
    Ratio,
    between_launches,
    between_means,
    between_pairs,
    holm,
)
from bakeoff.reports.rows import Row
from bakeoff.suites.metrics import Metric
from bakeoff.suites.records import Status

__all__ = ["LEAST", "VERDICTS", "Change", "Side", "change_of", "corrected"]

VERDICTS = ("worse", "better", "undecided", "no difference", "can't be compared")
#: Launches, or seeds, that each side needs: with fewer the spread between them is guessed.
LEAST = 5
#: From the best that can become of a cell to the worst: to lose a cell is worse than to have it.
_ORDER = (Status.OK, *(status for status in Status if status is not Status.OK))


@dataclass(frozen=True)
class Side:
    """What one file holds: the centre of all launches or seeds, and their number."""

    value: float | None
    unit: str
    n: int
    status: str
    reason: str


@dataclass(frozen=True)
class Change:
    """One metric of one cell in both files.

    Args:
        axes: The axes of the new cell.
        rival: ``variant:forward``, with the options that tell cells apart.
        metric: The metric; ``cell`` where the whole cell has a status of its own.
        old: What OLD holds.
        new: What NEW holds.
        ratio: New to old, where both have a value.
        more_is_better: Whether a larger value is the better one.
        verdict: One of :data:`VERDICTS`.
        reason: Why it can't be compared, or what the statuses say.
    """

    axes: Mapping[str, Any]
    rival: str
    metric: str
    old: Side
    new: Side
    ratio: Ratio | None = None
    more_is_better: bool = False
    verdict: str = ""
    reason: str = ""

    @property
    def suite(self) -> str:
        """The suite."""
        return str(self.axes["suite"])

    @property
    def cost(self) -> float:
        """By what factor it became worse; infinite where it no longer works."""
        if self.ratio is None:
            return {"worse": math.inf, "better": 0.0}.get(self.verdict, 1.0)
        return _inverse(self.ratio.value) if self.more_is_better else self.ratio.value


def change_of(
    metric: str, old: Sequence[Row], new: Sequence[Row], declared: Metric | None, threshold: float
) -> Change | None:
    """Compare the rows of one metric of one cell; the verdict of a sampled one is still open.

    Returns:
        The change; None where the metric only describes, so that nothing is better or worse.
    """
    before, after = _side(old), _side(new)
    change = Change(new[0].axes, new[0].rival, metric, before, after)
    versions = [rows[0].axes["suite_version"] for rows in (old, new)]
    if versions[0] != versions[1]:
        told = f"the suite's versions differ, {versions[0]} and {versions[1]}"
        return _not_comparable(change, f"{told}: its numbers mean different things")
    if before.status != after.status:
        worse = _rank(after.status) > _rank(before.status)
        told = f"{before.status} before, now {after.status}"
        reason = f"{told}: {after.reason}" if after.reason else told
        return replace(change, verdict="worse" if worse else "better", reason=reason)
    if before.status != "ok" or (before.value is None and after.value is None):
        return replace(change, verdict="no difference", reason=before.status)
    if declared is None:
        return _not_comparable(change, "no suite that is loaded here declares this metric")
    if not declared.better:
        return None
    if before.value is None or after.value is None:
        missing, side = ("OLD", before) if before.value is None else ("NEW", after)
        return _not_comparable(change, f"{missing} has no value: {side.reason or 'not said why'}")
    change = replace(change, more_is_better=declared.better == "more")
    if declared.varies in ("launch", "seed"):
        return _sampled(change, old, new, declared.varies)
    return _exact(change, threshold if declared.varies == "rounding" else 0.0)


def corrected(changes: Iterable[Change], threshold: float) -> list[Change]:
    """The changes, with verdicts for those that were sampled, corrected for how many they are.

    ``worse`` and ``better`` need both: a difference that holds after the correction, and a ratio
    beyond the threshold. ``no difference`` needs an interval within it.
    """
    changes = list(changes)
    sampled = [i for i, c in enumerate(changes) if c.ratio and c.ratio.p is not None]
    likely = holm([p for i in sampled if (r := changes[i].ratio) and (p := r.p) is not None])
    for i, p in zip(sampled, likely, strict=True):
        changes[i] = replace(changes[i], verdict=_verdict(changes[i], p, threshold))
    return changes


def _verdict(change: Change, p: float, threshold: float) -> str:
    assert change.ratio is not None
    edge = math.log1p(threshold)
    if p <= 1 - LEVEL and abs(math.log(change.ratio.value)) > edge:
        return "worse" if change.cost > 1 else "better"
    within = -edge <= math.log(change.ratio.low) and math.log(change.ratio.high) <= edge
    return "no difference" if within else "undecided"


def _exact(change: Change, tolerated: float) -> Change:
    old, new = change.old.value, change.new.value
    assert old is not None
    assert new is not None
    ratio = new / old if old else (math.inf if new else 1.0)
    change = replace(change, ratio=Ratio(ratio, ratio, ratio))
    if max(change.cost, _inverse(change.cost)) <= 1 + tolerated:
        return replace(change, verdict="no difference")
    return replace(change, verdict="worse" if change.cost > 1 else "better")


def _sampled(change: Change, old: Sequence[Row], new: Sequence[Row], by: str) -> Change:
    means = _mean_of(old, by), _mean_of(new, by)
    if means[0] and means[1]:
        sides = [
            replace(s, n=m[3]) for s, m in zip((change.old, change.new), means, strict=True) if m
        ]
        change = replace(change, old=sides[0], new=sides[1])
    if min(change.old.n, change.new.n) < LEAST:
        told = f"{change.old.n} and {change.new.n} {by}{'es' if by == 'launch' else 's'}"
        flag = "--launches 5" if by == "launch" else "more seeds"
        return _not_comparable(change, f"{told}, at least {LEAST} a side are needed: {flag}")
    before = {_repetition(row, by): row.value or 0.0 for row in old}
    after = {_repetition(row, by): row.value or 0.0 for row in new}
    if min(*before.values(), *after.values()) <= 0:
        return _not_comparable(change, "a value that is not positive has no ratio")
    if means[0] and means[1]:
        return replace(change, ratio=between_means(means[0], means[1]))
    if by == "seed" and before.keys() == after.keys():
        # The same seeds draw the same data: what one seed does to both sides cancels.
        same = [after[seed] for seed in before]
        return replace(change, ratio=between_pairs(list(before.values()), same))
    return replace(change, ratio=between_launches(list(before.values()), list(after.values())))


def _repetition(row: Row, by: str) -> str:
    return f"{row.axes['extra']} {row.axes['seed'] if by == 'seed' else ''}"


def _side(rows: Sequence[Row]) -> Side:
    """The worst row speaks for all where one failed; else the centre of their values."""
    worst = max(rows, key=lambda row: _rank(row.status))
    values = [row.value for row in rows if row.value is not None]
    value = None
    if worst.status == "ok" and values:
        positive = min(values) > 0
        value = statistics.geometric_mean(values) if positive else statistics.fmean(values)
        value = values[0] if len(set(values)) == 1 else value
    return Side(value, worst.unit, len(rows), worst.status, worst.reason)


def _mean_of(rows: Sequence[Row], by: str) -> tuple[float, float, float, int] | None:
    """The mean over seeds that one record holds, with its interval and how many they are."""
    row = rows[0]
    known = row.value is not None and row.low is not None and row.high is not None
    if by != "seed" or len(rows) > 1 or not known:
        return None
    return row.value or 0.0, row.low or 0.0, row.high or 0.0, row.n or 1


def _rank(status: str) -> int:
    return _ORDER.index(Status.of(status))


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def _not_comparable(change: Change, reason: str) -> Change:
    return replace(change, verdict="can't be compared", reason=reason)
