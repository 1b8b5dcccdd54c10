"""What a report says, apart from how it looks: environments, kinds, verdicts, tables, failures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bakeoff.reports.allocators import Differing, differing
from bakeoff.reports.launches import pooled
from bakeoff.reports.machine import KIND as MACHINE
from bakeoff.reports.machine import ceilings
from bakeoff.reports.maps import Picture, pictures_of
from bakeoff.reports.rows import JUDGING, Row, chosen, rows_of
from bakeoff.reports.scaling import Scaling, scaling_of
from bakeoff.reports.section import Section, all_sections
from bakeoff.reports.tables import Table, tables_of
from bakeoff.reports.verdicts import (
    ERRORS,
    SIZES,
    Checks,
    Verdict,
    checks_of,
    verdicts_of,
    wrong_labels,
)
from bakeoff.suites.records import CELL_METRIC

if TYPE_CHECKING:
    from bakeoff.suites.store import Results

__all__ = ["Contents", "Kind", "Place", "contents_of"]

#: Metrics with tables of their own, and by which metric the rivals in them are ranked.
SPEED = {"ratio": "ratio", "time": "ratio"}
MEMORY = {"peak_bytes": "peak_bytes", "saved_bytes": "saved_bytes"}
#: Metrics of races that say how good the others are, or what another table says too; they are in
#: the exported frames.
_IMPLIED = (
    "flops_per_second",
    "kernel_ratio",
    "noise_floor",
    "precision",
    "spread",
    "tokens_per_second",
    CELL_METRIC,
)


@dataclass(frozen=True)
class Kind:
    """Everything about one kind of variant, measured in one environment.

    Args:
        name: ``activation``, ``attention`` or ``connection``.
        verdicts: One for each forward; empty where no suite that judges was chosen.
        speed: Ratios and times.
        memory: Peaks and saved bytes, forward and training apart.
        scaling: How costs grow with the length.
        errors: Error ratios and errors by length.
        others: Tables of what other suites measured.
        checks: Probes, properties and identities.
        failures: The rows with a status that is no answer.
        unsupported: The rows of what a variant says that it can't do.
        pictures: Who attends to whom.
        wrong: Labels that are not ranked, with what is wrong.
        rows: Every row, but those of sections.
    """

    name: str
    verdicts: list[Verdict]
    speed: list[Table]
    memory: list[Table]
    scaling: list[Scaling]
    errors: list[Table]
    others: list[Table]
    checks: Mapping[str, Checks]
    failures: list[Row]
    unsupported: list[Row]
    pictures: list[Picture]
    wrong: Mapping[str, str]
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Place:
    """One environment: numbers of different ones never stand in one table.

    Args:
        digest: Its digest.
        description: What the machine and the software are.
        began: When the first of its cells was stored, in seconds since 1970.
        ended: When the last was.
        kinds: What was measured there.
        ceilings: What the machine can do, a line a device.
        sections: Parts of single suites, with their rows.
        wrong: Labels that are not ranked, with what is wrong.
    """

    digest: str
    description: Mapping[str, Any]
    began: float
    ended: float
    kinds: tuple[Kind, ...]
    ceilings: tuple[str, ...] = ()
    sections: tuple[tuple[Section, list[Row]], ...] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """A report's contents.

    Args:
        source: The name of the results file.
        records: How many records it speaks of.
        places: One for each environment.
        differing: Verdicts that depend on the allocator.
    """

    source: str
    records: int
    places: tuple[Place, ...] = field(default=())
    differing: tuple[Differing, ...] = ()


def contents_of(
    results: Results,
    *,
    kinds: Iterable[str] = (),
    suites: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> Contents:
    """Read the results and judge them; the filters choose what is shown, not what is judged.

    Raises:
        UnknownNameError: For a kind, suite or variant that the results do not hold.
        UsageError: Where nothing is left.
        StoreError: Where the results cannot be read.
    """
    rows = pooled(rows_of(results.to_pandas()))
    # Judged before anything is filtered away: a filter must not bring a wrong variant back.
    wrong = wrong_labels(rows)
    shown = chosen(rows, kinds=kinds, suites=suites, variants=variants)
    descriptions = results.environments()
    places = [
        _place(digest, descriptions.get(digest, {}), part, wrong)
        for digest, part in _split(shown, lambda row: row.environment).items()
    ]
    ratios = [
        (place.description, [t for kind in place.kinds for t in kind.speed if t.metric == "ratio"])
        for place in places
    ]
    return Contents(results.path.name, len(shown), tuple(places), tuple(differing(ratios)))


def _place(
    digest: str, description: Mapping[str, Any], rows: Sequence[Row], wrong: Mapping[str, str]
) -> Place:
    times = [row.measured_at for row in rows]
    sections = [(s, [row for row in rows if s.takes(row)]) for s in all_sections()]
    elsewhere = {id(row) for _, own in sections for row in own}
    general = [row for row in rows if id(row) not in elsewhere]
    kinds = _split(general, lambda row: str(row.axes["kind"]))
    found = tuple(_kind(name, kinds[name], wrong) for name in sorted(kinds) if name != MACHINE)
    told = tuple(ceilings(kinds.get(MACHINE, ())))
    shown = tuple((section, own) for section, own in sections if own)
    return Place(digest, description, min(times), max(times), found, told, shown, wrong)


def _kind(name: str, rows: Sequence[Row], wrong: Mapping[str, str]) -> Kind:
    judged = any(row.axes["suite"] in JUDGING for row in rows)
    # Errors are shown for what is wrong too: their tables rank nobody.
    errors = _tables(rows, "accuracy", dict.fromkeys((*ERRORS, *SIZES), ""), ())
    labels = {row.label for row in rows}
    return Kind(
        name,
        verdicts_of(rows) if judged else [],
        _tables(rows, "speed", SPEED, wrong),
        _tables(rows, "memory", MEMORY, wrong),
        scaling_of(rows, wrong),
        errors + _tables(rows, "gradient", {"grad_error_ratio": ""}, ()),
        _others(rows, wrong),
        checks_of(rows),
        [row for row in rows if row.failed],
        [row for row in rows if row.status == "unsupported"],
        pictures_of(rows),
        {label: reason for label, reason in wrong.items() if label in labels},
        rows,
    )


def _tables(
    rows: Sequence[Row], suite: str, metrics: Mapping[str, str], wrong: Collection[str]
) -> list[Table]:
    cases: dict[str, list[Table]] = {}
    for metric, order in metrics.items():
        for table in tables_of(rows, suite, metric, wrong, order=order):
            case = repr([item for item in table.fixed.items() if item[0] != "baseline"])
            cases.setdefault(case, []).append(table)
    # All metrics of one case stand together.
    return [table for tables in cases.values() for table in tables]


def _others(rows: Sequence[Row], wrong: Collection[str]) -> list[Table]:
    """Whatever else has a value: compile times, and the metrics of other people's suites."""
    known = {"speed": (*SPEED, *_IMPLIED), "memory": (*MEMORY, *_IMPLIED)}
    own_tables = (*JUDGING, "scaling")
    pairs = {
        (row.axes["suite"], row.metric): None
        for row in rows
        if row.value is not None
        and row.axes["suite"] not in own_tables
        and row.metric not in known.get(row.axes["suite"], ())
    }
    order = {"roofline_fraction": "ratio"}  # the fastest first, as in the tables of speed
    return [
        table
        for suite, metric in pairs
        for table in tables_of(rows, suite, metric, wrong, order=order.get(metric, ""))
    ]


def _split(rows: Iterable[Row], by: Callable[[Row], str]) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(by(row), []).append(row)
    return parts
