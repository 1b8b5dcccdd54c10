"""Is it right: one verdict for each forward of a variant, and its checks one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from bakeoff.reports.curves import METRIC as CURVES
from bakeoff.reports.maps import METRIC as MAP
from bakeoff.reports.rows import JUDGING, Row, plain
from bakeoff.suites.records import CELL_METRIC, Status

__all__ = [
    "COMPARED",
    "ERRORS",
    "SIZES",
    "Checks",
    "Count",
    "Verdict",
    "checks_of",
    "verdicts_of",
    "wrong_labels",
]

#: Metrics of the accuracy suite that are no probe: ratios that are judged, and sizes of errors.
ERRORS = ("error_ratio", "error_ratio_masked")
SIZES = ("max_abs_error", "rms_error", "approximation_error")
#: What the accuracy suite stores besides, and is no check that could pass or fail.
_NO_CHECKS = (*ERRORS, *SIZES, MAP, CURVES, CELL_METRIC)
#: Of a comparison with the reference that could be made, or for which there was no other forward.
COMPARED = (Status.OK, Status.UNVERIFIED)


@dataclass(frozen=True)
class Count:
    """How many checks failed, of those that could be made."""

    failed: int = 0
    made: int = 0

    def __str__(self) -> str:
        return f"{self.failed}/{self.made}" if self.made else "-"


@dataclass(frozen=True)
class Checks:
    """Checks of one sort: of several rows of one check, the worst stands.

    Args:
        worst: By label and name of the check.
    """

    worst: Mapping[tuple[str, str], Row]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Checks:
        """The worst row of each check; the first of equals, so that status and reason agree."""
        worst: dict[tuple[str, str], Row] = {}
        for row in rows:
            key = (row.label, _name(row))
            if key not in worst or row.severity > worst[key].severity:
                worst[key] = row
        return cls(worst)

    @property
    def names(self) -> list[str]:
        """The names of the checks."""
        return list(dict.fromkeys(name for _, name in self.worst))

    def count(self, label: str) -> Count:
        """How many of ``label`` failed."""
        made = [
            row
            for (of, _), row in self.worst.items()
            if of == label and row.status != "unsupported"
        ]
        return Count(sum(row.failed for row in made), len(made))


@dataclass(frozen=True)
class Verdict:
    """What is known of one forward's correctness.

    Args:
        label: ``variant:forward``.
        verdict: ``right``, ``wrong``, ``failed`` (a check could not be finished),
            ``undetermined`` (in some dtype the reference is too far off to judge by),
            ``unverified`` (nothing independent to compare with) or ``not measured``.
        errors: The worst error ratio by dtype; at most 2 passes.
        gradients: The worst gradient error ratio by dtype.
        gradcheck: What became of the gradcheck, a status; empty where there was none.
        reason: Why, where the verdict is not ``right``.
    """

    label: str
    verdict: str
    errors: Mapping[str, float] = field(default_factory=dict)
    gradients: Mapping[str, float] = field(default_factory=dict)
    gradcheck: str = ""
    reason: str = ""


def wrong_labels(rows: Iterable[Row]) -> dict[str, str]:
    """Every forward with a row that says wrong, and what is wrong: none is ranked."""
    wrong: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.status == "wrong":
            wrong.setdefault(row.label, {})[row.metric] = None
    return {label: ", ".join(metrics) for label, metrics in wrong.items()}


def verdicts_of(rows: Iterable[Row]) -> list[Verdict]:
    """One verdict a label, in the order of the rows."""
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        judging = by_label.setdefault(row.label, [])
        if row.axes["suite"] in JUDGING:
            judging.append(row)
    found = [_verdict(label, judging) for label, judging in by_label.items()]
    return [_unless_alone(verdict, found) for verdict in found]


def checks_of(rows: Iterable[Row]) -> dict[str, Checks]:
    """The probes, the declared properties and the identities."""
    sorts: dict[str, list[Row]] = {"probes": [], "properties": [], "identities": []}
    for row in rows:
        if row.axes["suite"] != "accuracy" or row.metric in _NO_CHECKS:
            continue
        if row.metric.startswith("property_"):
            sorts["properties"].append(row)
        elif row.metric.startswith("identity"):
            sorts["identities"].append(row)
        else:
            sorts["probes"].append(row)
    return {name: Checks.of(found) for name, found in sorts.items()}


def _unless_alone(verdict: Verdict, found: Sequence[Verdict]) -> Verdict:
    """A reference is right only if another forward is: one that is no second definition shows none.

    Where none of the others was measured, or one of them is wrong, its own comparison stands.
    """
    variant, _, forward = verdict.label.rpartition(":")
    others = [v for v in found if v.label.startswith(f"{variant}:") and v is not verdict]
    measured = [v for v in others if v.verdict != "not measured"]
    alone = measured and all(v.verdict == "unverified" for v in measured)
    if forward == "reference" and verdict.verdict == "right" and alone:
        return replace(verdict, verdict="unverified", reason="no independent definition")
    return verdict


def _verdict(label: str, rows: Sequence[Row]) -> Verdict:
    verdict, reason = _judged(rows)
    gradchecks = [row for row in rows if row.metric == "gradcheck"]
    return Verdict(
        label,
        verdict,
        _worst_by_dtype(rows, ERRORS),
        _worst_by_dtype(rows, ("grad_error_ratio",)),
        max(gradchecks, key=attrgetter("severity")).status if gradchecks else "",
        reason,
    )


def _judged(rows: Sequence[Row]) -> tuple[str, str]:
    """The verdict and its reason."""
    failed = [row for row in rows if row.failed]
    if failed:
        worst = max(failed, key=attrgetter("severity"))
        verdict = "wrong" if worst.status == "wrong" else "failed"
        return verdict, f"{worst.metric}: {worst.reason}"
    undetermined = [row for row in rows if row.status == Status.UNDETERMINED]
    if undetermined:
        return "undetermined", f"{undetermined[0].metric}: {undetermined[0].reason}"
    errors = [row for row in rows if row.metric in ERRORS and row.status in COMPARED]
    if any(row.value is not None for row in errors):
        return "right", ""
    if errors:
        return "unverified", errors[0].reason
    unsupported = [row.reason for row in rows if row.status == "unsupported"]
    return "not measured", unsupported[0] if unsupported else ""


def _worst_by_dtype(rows: Iterable[Row], metrics: tuple[str, ...]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for row in rows:
        # An error that is no number, or where none is allowed, is beyond every other.
        value = math.inf if row.value is None and row.status == "wrong" else row.value
        if row.metric in metrics and value is not None:
            dtype = row.axes["dtype"]
            worst[dtype] = max(worst.get(dtype, 0.0), value)
    return worst


def _name(row: Row) -> str:
    """The metric; for an identity also which, and of a property the property alone."""
    name = row.axes["extra"] and plain(row.axes["extra"]).get("identity")
    if name:
        return f"{name}, causal" if row.metric.endswith("causal") else str(name)
    return row.metric.removeprefix("property_")
