"""The whole comparison of two results files, apart from how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import UnknownNameError, UsageError, did_you_mean
from bakeoff.reports.compare.changes import Change, change_of, corrected
from bakeoff.reports.compare.pairing import Cells, Pairing, Place, cells_of, places_of
from bakeoff.reports.machine import KIND as MACHINE
from bakeoff.reports.rows import Row, chosen, rows_of
from bakeoff.suites.metrics import Metric
from bakeoff.suites.records import CELL_METRIC

if TYPE_CHECKING:
    from bakeoff.suites.store import Results

__all__ = ["TIMES", "Comparison", "compared"]

#: By what the times of a race can be compared: each is one metric of the speed suite.
TIMES = ("ratio", "kernel_ratio", "time")


@dataclass(frozen=True)
class Comparison:
    """What two results files say of each other.

    Args:
        old: The name of one file.
        new: The name of the other.
        pairing: The environments that were set against each other.
        by: The metric by which times are compared, one of :data:`TIMES`.
        threshold: The least change of what was sampled that is called better or worse, a share.
        changes: One for each metric of each cell that both hold.
        gone: Labels that only OLD holds, by suite.
        added: Labels that only NEW holds, by suite.
        unmatched: Cells of labels that both hold of which one side lacks the cell, by side.
        suites_alone: Suites that one side lacks, with the side that has them.
        sources: Variants whose source changed.
        moved: Labels of baselines whose source changed; their races are compared by
            ``kernel_ratio``.
    """

    old: str
    new: str
    pairing: Pairing
    by: str
    threshold: float
    changes: tuple[Change, ...]
    gone: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmatched: Mapping[str, int] = field(default_factory=dict)
    suites_alone: tuple[tuple[str, str], ...] = ()
    sources: frozenset[str] = frozenset()
    moved: tuple[str, ...] = ()

    @property
    def sampled(self) -> int:
        """How many comparisons were corrected for each other."""
        return sum(c.ratio is not None and c.ratio.p is not None for c in self.changes)

    def of(self, verdict: str) -> list[Change]:
        """The changes with this verdict, the largest first."""
        found = [change for change in self.changes if change.verdict == verdict]
        return sorted(found, key=lambda change: change.cost, reverse=verdict != "better")

    def failing(self, verdict: str, share: float) -> list[Change]:
        """The changes with this verdict that are at least so large; a status always is.

        Example:
            ``failing("worse", 0.05)`` is what ``--fail-on worse:5%`` exits with 1 for.
        """
        if verdict == "worse":
            return [change for change in self.of(verdict) if change.cost >= 1 + share]
        if verdict == "better":
            return [change for change in self.of(verdict) if change.cost <= 1 / (1 + share)]
        return self.of(verdict)


def compared(
    old: Results,
    new: Results,
    metrics: Mapping[tuple[str, str], Metric],
    *,
    by: str = "ratio",
    threshold: float = 0.05,
    kinds: Iterable[str] = (),
    suites: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> Comparison:
    """Compare every cell that both files hold.

    Args:
        old: One results file.
        new: The other.
        metrics: What the suites declare, by suite and metric.
        by: By what times are compared. ``ratio``, to the baseline of the race, varies least from
            process to process; the baseline itself, and races whose baseline's source changed,
            are compared by ``kernel_ratio``, to the reference kernel. ``time`` is for two machines.
        threshold: The least change of a sampled metric that is called better or worse.
        kinds: Only these kinds; none for all. Likewise ``suites`` and ``variants``.

    Raises:
        UnknownNameError: For a name that neither file holds, or an unknown ``by``.
        UsageError: Where no environment of one can be set against one of the other.
        StoreError: Where a file can't be read.
    """
    if by not in TIMES:
        raise UnknownNameError(f"by: got {by!r}; {did_you_mean(by, TIMES)}")
    rows = _chosen([rows_of(r.to_pandas()) for r in (old, new)], kinds, suites, variants)
    pairing = places_of(_described(old, rows[0]), _described(new, rows[1]))
    if not pairing.places:
        told = "; ".join(f"{side}: {name}" for side, name in pairing.alone)
        raise UsageError(
            f"nothing can be compared: no environment of one file fits one of the other ({told}); "
            "allocators must agree"
        )
    sources = _changed_sources(old, new)
    at = _At(metrics, by, threshold, sources)
    for place in pairing.places:
        at.compare(place, rows[0], rows[1])
    return Comparison(
        old.path.name,
        new.path.name,
        pairing,
        by,
        threshold,
        tuple(corrected(at.changes, threshold)),
        _only(rows[0], rows[1]),
        _only(rows[1], rows[0]),
        {side: n for side, n in at.unmatched.items() if n},
        tuple(_suites_alone(*rows)),
        sources,
        tuple(sorted(at.moved)),
    )


@dataclass
class _At:
    """Gathers the changes, place by place."""

    metrics: Mapping[tuple[str, str], Metric]
    by: str
    threshold: float
    sources: frozenset[str]
    changes: list[Change] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)
    unmatched: dict[str, int] = field(default_factory=lambda: {"OLD": 0, "NEW": 0})

    def compare(self, place: Place, old: Sequence[Row], new: Sequence[Row]) -> None:
        before = [row for row in old if row.environment == place.old]
        after = [row for row in new if row.environment == place.new]
        devices = [{row.axes["device"] for row in rows} for rows in (before, after)]
        elsewhere = ["device"] if devices[0].isdisjoint(devices[1]) else []
        repeated = {suite for (suite, _), m in self.metrics.items() if m.varies == "seed"}
        for suite in dict.fromkeys(row.axes["suite"] for row in after):
            without = [*elsewhere, "seed"] if suite in repeated else elsewhere
            sides = [
                cells_of((row for row in rows if row.axes["suite"] == suite), without)
                for rows in (before, after)
            ]
            self._suite(suite, *sides)

    def _suite(self, suite: str, before: Cells, after: Cells) -> None:
        labels = [{_first(cell).label for cell in cells.values()} for cells in (before, after)]
        for side, cells, others in (("OLD", before, after), ("NEW", after, before)):
            lacking = [_first(cell).label for key, cell in cells.items() if key not in others]
            self.unmatched[side] += sum(label in labels[0] & labels[1] for label in lacking)
        for key in (key for key in after if key in before):
            for change in self._cell(suite, before[key], after[key]):
                self.changes.append(change)

    def _cell(
        self, suite: str, old: Mapping[str, Sequence[Row]], new: Mapping[str, Sequence[Row]]
    ) -> Iterator[Change]:
        if CELL_METRIC in old or CELL_METRIC in new:
            # Of a cell that failed there is nothing but that; its first metric stands for the rest.
            sides = [cell.get(CELL_METRIC) or next(iter(cell.values())) for cell in (old, new)]
            names: list[str] = [CELL_METRIC]
        else:
            sides, names = [], [name for name in old if name in new]
            skipped = {name for name in TIMES if name != self._time_of(old, new)}
            names = [name for name in names if not (suite == "speed" and name in skipped)]
        for name in names:
            before, after = sides or (old[name], new[name])
            declared = self.metrics.get((suite, name))
            found = change_of(name, before, after, declared, self.threshold)
            if found:
                yield found

    def _time_of(self, old: Mapping[str, Sequence[Row]], new: Mapping[str, Sequence[Row]]) -> str:
        """By which metric the times of this cell are compared."""
        if self.by != "ratio" or "ratio" not in old or "ratio" not in new:
            return self.by if self.by != "ratio" else "kernel_ratio"
        baseline = new["ratio"][0].reason.removeprefix("to ")
        if baseline.partition(":")[0] in self.sources:
            self.moved.add(baseline)
            return "kernel_ratio"
        return "kernel_ratio" if baseline == new["ratio"][0].label else "ratio"


def _chosen(sides: Sequence[Sequence[Row]], *filters: Iterable[str]) -> list[list[Row]]:
    """A name that one side alone holds is known, too."""
    kinds, suites, variants = filters
    own = [row for rows in sides for row in rows if row.axes["kind"] != MACHINE]
    kept = {id(row) for row in chosen(own, kinds=kinds, suites=suites, variants=variants)}
    return [[row for row in rows if id(row) in kept] for rows in sides]


def _described(results: Results, rows: Iterable[Row]) -> dict[str, Mapping[str, Any]]:
    descriptions = results.environments()
    return {d: descriptions.get(d, {}) for d in dict.fromkeys(row.environment for row in rows)}


def _changed_sources(old: Results, new: Results) -> frozenset[str]:
    before, after = old.sources(), new.sources()
    return frozenset(name for name in before if after.get(name, before[name]) != before[name])


def _only(rows: Iterable[Row], others: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Labels that the others lack, in suites that they have."""
    there = {(row.axes["suite"], row.label) for row in others}
    suites = {suite for suite, _ in there}
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        suite = row.axes["suite"]
        if suite in suites and (suite, row.label) not in there:
            found.setdefault(suite, {})[row.label] = None
    return {suite: tuple(labels) for suite, labels in found.items()}


def _suites_alone(old: Iterable[Row], new: Iterable[Row]) -> Iterator[tuple[str, str]]:
    before, after = ({str(row.axes["suite"]) for row in rows} for rows in (old, new))
    yield from (("OLD", suite) for suite in sorted(before - after))
    yield from (("NEW", suite) for suite in sorted(after - before))


def _first(cell: Mapping[str, Sequence[Row]]) -> Row:
    return next(iter(cell.values()))[0]
