"""Cells and records: what was measured, on what, and what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from bakeoff.registry.shapes import Case, FeatureShape, Shape

__all__ = ["AXES", "CELL_METRIC", "TIMED_OUTPUT", "Cell", "Record", "Status", "whole_cell"]


class Status(StrEnum):
    """What became of a measurement, from the best that can be said of it to the worst.

    Example:
        >>> max(Status.OK, Status.WRONG, Status.OOM, key=lambda status: status.severity)
        <Status.WRONG: 'wrong'>
    """

    UNSUPPORTED = "unsupported"  # the variant says that it can't, with the reason
    OK = "ok"
    UNVERIFIED = "unverified"  # nothing independent to compare with
    UNDETERMINED = "undetermined"  # the reference is too far off in this dtype to judge by
    TIMEOUT = "timeout"
    OOM = "oom"
    CRASHED = "crashed"  # its process died
    FAILED = "failed"  # an exception
    WRONG = "wrong"  # it ran and is not right

    @classmethod
    def of(cls, text: str) -> Status:
        """The status that a results file names; what it does not know counts as failed."""
        return cls(text) if text in set(cls) else cls.FAILED

    @property
    def severity(self) -> int:
        """Its place in the order, from 0."""
        return list(Status).index(self)

    @property
    def is_failure(self) -> bool:
        """Whether something should have worked and did not."""
        return self in _FAILURES


_FAILURES = (Status.WRONG, Status.FAILED, Status.CRASHED, Status.OOM, Status.TIMEOUT)


#: The metric of a record that speaks of the whole cell: why there is no other.
CELL_METRIC = "cell"

#: The metric of a record that says whether what was timed is right.
TIMED_OUTPUT = "timed_output"

#: The columns that tell cells apart, in the order in which tables show them.
AXES = (
    "suite",
    "suite_version",
    "kind",
    "variant",
    "forward",
    "pattern",
    "seq_len",
    "batch",
    "heads",
    "kv_heads",
    "q_len",
    "k_len",
    "head_dim",
    "value_dim",
    "grid",
    "features",
    "options",
    "dtype",
    "device",
    "direction",
    "mode",
    "threads",
    "inputs",
    "seed",
    "extra",
)


@dataclass(frozen=True)
class Cell:
    """One variant's forward on one case, as one suite looks at it.

    Args:
        suite: Name of the suite.
        suite_version: Its version: results of different versions are not compared.
        variant: Name of the variant.
        forward: Name of the forward.
        case: Everything that fixes the computation.
        extra: What the suite adds (a probe, a layer, a task), plain values.
    """

    suite: str
    suite_version: int
    variant: str
    forward: str
    case: Case
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        # Mappings have no hash: what is left tells most cells apart, and equality the rest.
        case = self.case
        return hash((self.label, self.suite, case.shape, case.pattern, case.dtype, case.direction))

    @property
    def label(self) -> str:
        """``variant:forward``."""
        return f"{self.variant}:{self.forward}"

    def axes(self) -> dict[str, Any]:
        """One plain value for each of :data:`AXES`; None where an axis does not apply."""
        case, shape = self.case, self.case.shape
        sizes = {k: v for k, v in asdict(shape).items() if k in AXES and k != "grid"}
        values = {name: getattr(self, name) for name in ("suite", "suite_version")}
        values |= {name: getattr(self, name) for name in ("variant", "forward")}
        values |= {name: getattr(case, name) for name in _CASE_AXES}
        values |= sizes
        values["seq_len"] = case.seq_len
        values["grid"] = json.dumps(shape.grid) if isinstance(shape, Shape) and shape.grid else None
        values["options"] = _plain(case.options)
        values["extra"] = _plain(self.extra)
        return {axis: values.get(axis) for axis in AXES}

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which :meth:`from_json` makes an equal cell."""
        data = {name: getattr(self, name) for name in ("suite", "suite_version")}
        data |= {"variant": self.variant, "forward": self.forward, "extra": dict(self.extra)}
        case = {f.name: getattr(self.case, f.name) for f in fields(Case)}
        case["shape"] = asdict(self.case.shape)
        case["options"] = dict(self.case.options)
        return data | {"case": case}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        """The cell that :meth:`to_json` wrote; lists become tuples again."""
        case = dict(data["case"])
        sizes = dict(case.pop("shape"))
        if case["kind"] == "attention":
            sizes["grid"] = _tuples(sizes["grid"])
            shape: Shape | FeatureShape = Shape(**sizes)
        else:
            shape = FeatureShape(**sizes)
        case["options"] = {name: _tuples(value) for name, value in case["options"].items()}
        return cls(**{**data, "case": Case(shape=shape, **case)})


_CASE_AXES = (
    "kind",
    "pattern",
    "dtype",
    "device",
    "direction",
    "mode",
    "threads",
    "inputs",
    "seed",
)


@dataclass(frozen=True)
class Record:
    """One metric of one cell: a tidy row.

    Args:
        cell: The cell.
        metric: What was measured.
        value: The number; None where there is none, and then the status says why.
        unit: ``"s"``, ``"bytes"``, … ; empty for a pure number.
        low: Lower end of the 95% interval, for a statistic.
        high: Upper end.
        n: Number of samples, for a statistic.
        status: What became of it.
        reason: Why, where the status is not ok; a remark where it is.
    """

    cell: Cell
    metric: str
    value: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    status: Status = Status.OK
    reason: str = ""


def whole_cell(cell: Cell, status: Status, reason: str) -> Record:
    """The record of a cell of which nothing could be measured."""
    return Record(cell, CELL_METRIC, status=status, reason=reason)


def _plain(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
