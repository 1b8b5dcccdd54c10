"""Whether a fault of torch on this machine explains what a check calls wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.reports.certificate import Cause, Judged, judged
from bakeoff.reports.rows import Row, rows_of
from bakeoff.suites.faults.fault import Fault, State, diagnose
from bakeoff.suites.faults.known import FAULTS, devices_here
from bakeoff.suites.runner import execute
from bakeoff.suites.spec import Job
from bakeoff.suites.supervisor import Limits

__all__ = ["causes_of"]


def causes_of(
    rows: Sequence[Row], jobs: Sequence[Job], catalog: Catalog, limits: Limits
) -> dict[Judged, Cause]:
    """The faults of torch that make a check fail: without them it passes.

    A fault is blamed if it is present on this machine, can make such a check fail on this device
    in this dtype, and the check passes in a process that does not have it. That it could have
    been at fault is not enough: a forward may have the same fault by itself.

    Args:
        rows: What came out, of one variant.
        jobs: What was measured.
        catalog: Where the variant is.
        limits: What a job may use.
    """
    causes: dict[Judged, Cause] = {}
    for fault in FAULTS:
        suspected = [row for row in rows if row.failed and _may_explain(fault, row)]
        if suspected and _is_present(fault):
            cause = Cause(fault.name, fault.summary, fault.workaround, fault.report)
            passed = _passed_without(fault, suspected, jobs, catalog, limits)
            causes |= {judged(row): cause for row in suspected if judged(row) in passed}
    return causes


def _may_explain(fault: Fault, row: Row) -> bool:
    """Whether the fault can make this check fail, and can be switched off to see."""
    return (
        bool(fault.environment)
        and row.metric in fault.checks
        and str(row.axes["device"]).partition(":")[0] in fault.devices
        and (not fault.dtypes or row.axes["dtype"] in fault.dtypes)
    )


def _is_present(fault: Fault) -> bool:
    return any(found.state == State.PRESENT for found in diagnose([fault], devices_here()))


def _passed_without(
    fault: Fault, suspected: Sequence[Row], jobs: Sequence[Job], catalog: Catalog, limits: Limits
) -> set[Judged]:
    """What passes where the same cells are measured in processes that do not have the fault."""
    cells = {_identity(row.axes) for row in suspected}
    again = [
        replace(job, cells=tuple(cell for cell in job.cells if _identity(cell.axes()) in cells))
        for job in jobs
    ]
    with tempfile.TemporaryDirectory(prefix="bakeoff-blaming-") as folder:
        results = execute(
            [job for job in again if job.cells],
            catalog,
            Path(folder) / "results.sqlite",
            limits=limits,
            variables=fault.environment,
        )
        rows = rows_of(results.to_pandas())
    tried, failed = {judged(r) for r in rows}, {judged(r) for r in rows if r.failed}
    return tried - failed


def _identity(axes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Every axis of a cell."""
    return tuple(axes.values())
