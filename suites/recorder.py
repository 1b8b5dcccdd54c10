"""From the records of a run to stored cells: each once, and whoever watches is told."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence

from bakeoff.registry.catalog import Catalog
from bakeoff.suites.environment import digest_of
from bakeoff.suites.identity import Identified, identified
from bakeoff.suites.planning import without
from bakeoff.suites.progress import Progress, Summary
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.spec import Job
from bakeoff.suites.store import Store

__all__ = ["Gathered", "Recorder"]


class Gathered:
    """Gathers the records of a cell of one job, and stores the cell when the next one begins."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: list[Record] = []

    def see(self, record: Record) -> None:
        """Take one record; it closes the cell before it."""
        if self._open and self._open[0].cell != record.cell:
            self.flush()
        self._open.append(record)

    def flush(self, without: Cell | None = None) -> None:
        """Store the open cell, unless it is the one whose records are to be dropped."""
        records, self._open = self._open, []
        if records and records[0].cell != without:
            self._recorder.commit(records)


class Recorder:
    """Stores cells, once each, and tells those who watch."""

    def __init__(self, catalog: Catalog, store: Store, progress: Progress) -> None:
        self.catalog, self.store, self.progress = catalog, store, progress
        self.summary = Summary()
        self._keys: dict[Cell, Identified] = {}
        self._done: set[str] = set()
        hooks = catalog.contributions.get("bakeoff_record", ())
        self._watchers = {hook.origin: hook.value for hook in hooks}

    def pending(self, jobs: Sequence[Job], malloc: str) -> list[Job]:
        """The jobs, each without the cells that are stored or stand in an earlier job."""
        self._done = self.store.keys()
        cells = (cell for job in jobs for cell in job.cells)
        self._keys = identified(self.catalog, cells, malloc)
        pending, keys = without(jobs, self._keys, self._done)
        self.summary.planned = len(keys)
        self.summary.stored = len(keys & self._done)
        self.progress.begin(self.summary.planned, self.summary.stored)
        return pending

    def environment_of(self, cell: Cell) -> str:
        """The digest under which the environment of a cell is stored."""
        return digest_of(self._keys[cell].environment)

    def left(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those that are not stored yet."""
        return [cell for cell in cells if self._keys[cell].key not in self._done]

    def close(self, cell: Cell, status: Status, reason: str) -> None:
        """Store a cell of which nothing could be measured."""
        if self._keys[cell].key not in self._done:
            self.commit([whole_cell(cell, status, reason)])

    def commit(self, records: Sequence[Record]) -> None:
        """Store the records of one cell."""
        cell = records[0].cell
        identity = self._keys[cell]
        self.store.add(identity, cell, records)
        self._done.add(identity.key)
        for record in records:
            counts = self.summary.statuses
            counts[record.status] = counts.get(record.status, 0) + 1
            self._tell(record)
        self.progress.finished(cell, records)

    def _tell(self, record: Record) -> None:
        """Call the hooks; one that fails is not called again."""
        for origin, hook in list(self._watchers.items()):
            try:
                _call_hook(hook, record)
            except Exception as error:
                del self._watchers[origin]
                warnings.warn(
                    f"{origin}: bakeoff_record failed and is not called again: {error!r}",
                    stacklevel=2,
                )


def _call_hook(hook: Callable[..., object], record: Record) -> None:
    """As pluggy does: a hook may leave out an argument that it does not need."""
    hook(**({"record": record} if "record" in inspect.signature(hook).parameters else {}))
