"""What a suite is: it plans jobs over a catalog, and measures one job in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bakeoff.registry.catalog import Catalog
from bakeoff.suites.contributions import brought, chosen
from bakeoff.suites.metrics import Metric
from bakeoff.suites.records import Cell, Record
from bakeoff.suites.selection import Selection

if TYPE_CHECKING:
    from bakeoff.suites.store import Store

__all__ = ["Job", "Suite", "suites_of"]


def _silent(cell: Cell) -> None:
    """A job outside a worker has nobody to tell."""


@dataclass(frozen=True)
class Job:
    """The cells that one worker process runs together.

    Args:
        cells: For speed, all rivals of one case; for the other suites, one variant's cells.
        settings: What the suite needs besides, plain values (a time budget, a baseline).
        catalog: Where the worker finds the variants.
        announce: To be called before a cell is run: if the process dies, that cell is blamed.
        ask: Called in the main process just before the job runs, with the store and the digest
            of the job's environment, for more settings: what earlier jobs have stored.
        fresh: Whether it needs a process of its own, started anew and not forked: a fork has the
            memory layout of its parent, which is one of the things that differ between launches.
        for_others: Whether it only serves other jobs: every shard has it.
        untimed: Whether nothing in it depends on what else the machine does: such jobs run side
            by side.
    """

    cells: tuple[Cell, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    catalog: Catalog = field(default_factory=lambda: Catalog({}), repr=False)
    announce: Callable[[Cell], None] = field(default=_silent, repr=False)
    ask: Callable[[Store, str], Mapping[str, Any]] | None = field(default=None, repr=False)
    fresh: bool = False
    for_others: bool = False
    untimed: bool = False

    @property
    def suite(self) -> str:
        """The suite to which the cells belong."""
        return self.cells[0].suite


@dataclass(frozen=True)
class Suite:
    """A set of metrics, and how they are measured.

    Args:
        name: lower_snake_case.
        version: Raised when the meaning of a metric changes: older results are measured again.
        summary: One sentence.
        plan: ``(catalog, selection) -> jobs``. It runs in the main process and must run no
            variant.
        measure: ``job -> records``. It runs in a worker process. The records of one cell come
            together; a cell is stored when the next one begins.
        on_request: Whether it runs only where it is named: it takes long, or needs an extra.
        metrics: What it measures, by the names that its records bear. Two results of a metric
            that is not declared can't be compared.
    """

    name: str
    version: int
    summary: str
    plan: Callable[[Catalog, Selection], Iterable[Job]]
    measure: Callable[[Job], Iterable[Record]]
    on_request: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=dict, hash=False)


def suites_of(catalog: Catalog, names: Iterable[str] = ()) -> dict[str, Suite]:
    """The suites that the plugins bring, all of them or those of ``names``.

    Raises:
        BakeoffError: Where a plugin returns what is no suite, or two share a name.
        UnknownNameError: For a name that no suite has.
    """
    return chosen(brought(catalog, "bakeoff_suites", Suite), names, "suite")
