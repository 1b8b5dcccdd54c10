"""The pick: what to take, what comes next, and what was ruled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import UsageError
from bakeoff.reports.launches import pooled
from bakeoff.reports.pick.candidates import Candidate, candidates_of, situation_of
from bakeoff.reports.pick.request import Request
from bakeoff.reports.rows import rows_of
from bakeoff.reports.verdicts import wrong_labels

if TYPE_CHECKING:
    from bakeoff.suites.store import Results

__all__ = ["Pick", "picked"]


@dataclass(frozen=True)
class Pick:
    """What came out.

    Args:
        request: What was asked for.
        situation: The case: the axes that were asked for, and those that nobody varied.
        machine: The description of this machine.
        fitting: What keeps every limit, the fastest first: the first is what to take.
        ruled_out: The others, each with what rules it out.
        tied: Rivals that the measurement can't tell from the first.
        unmeasured: Variants of which the results hold nothing on this machine.
        elsewhere: How many environments of others the results hold, which were left out.
    """

    request: Request
    situation: Mapping[str, Any]
    machine: Mapping[str, Any]
    fitting: tuple[Candidate, ...]
    ruled_out: tuple[Candidate, ...]
    tied: tuple[str, ...]
    unmeasured: tuple[str, ...]
    elsewhere: int

    @property
    def taken(self) -> Candidate | None:
        """What to take; None where nothing keeps the limits."""
        return self.fitting[0] if self.fitting else None

    @property
    def estimated(self) -> bool:
        """Whether any number of what fits was not measured at the length asked for."""
        return any(
            value is not None and value.estimated
            for c in self.fitting
            for value in (c.ratio, c.time, c.peak)
        )


def picked(results: Results, environment: str, request: Request) -> Pick:
    """Choose among the forwards that were measured on this machine.

    Args:
        results: The results file.
        environment: The digest of this machine.
        request: What is asked for.

    Raises:
        UsageError: Where nothing was measured on this machine, or an axis is left open that the
            results vary.
        StoreError: Where the file can't be read.
    """
    rows = [row for row in pooled(rows_of(results.to_pandas())) if row.axes["kind"] == request.kind]
    here = [row for row in rows if row.environment == environment]
    described = results.environments()
    if not here:
        raise UsageError(
            f"{results.path} holds nothing of {request.kind} measured on this machine with this "
            f"software, and {len(described)} other environments, which do not count here; "
            "--measure measures it"
        )
    candidates = candidates_of(here, rows, wrong_labels(rows), request)
    fitting = tuple(c for c in candidates if not c.out)
    known = {c.variant for c in candidates}
    return Pick(
        request,
        situation_of(here, request),
        described[environment],
        fitting,
        tuple(c for c in candidates if c.out),
        _tied(fitting),
        tuple(n for n, said in request.variants.items() if n not in known and not said.control),
        len({row.environment for row in rows} - {environment}),
    )


def _tied(fitting: Sequence[Candidate]) -> tuple[str, ...]:
    """As in the reports: intervals that overlap, or lie within the noise floor of each other."""
    if not fitting or fitting[0].ratio is None or fitting[0].ratio.estimated:
        return ()
    reach = fitting[0].ratio.most * fitting[0].floor
    return tuple(c.rival for c in fitting[1:] if c.ratio and c.ratio.least <= reach)
