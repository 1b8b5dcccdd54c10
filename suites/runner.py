"""Plans the cells, leaves out what is measured already, runs the jobs and stores what comes."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import discover
from bakeoff.suites.environment import MALLOCS, digest_of, environment, require_malloc
from bakeoff.suites.explain import Explanation, explanations
from bakeoff.suites.identity import Identified, identified
from bakeoff.suites.planning import Shard, planned, without
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.selection import DEFAULT_TIMEOUT
from bakeoff.suites.spec import Job
from bakeoff.suites.store import DEFAULT_PATH, Results, Store
from bakeoff.suites.supervisor import Limits, Supervisor

__all__ = ["Progress", "Silent", "Summary", "execute", "explain", "run"]


class Progress(Protocol):
    """Sees a run as it goes."""

    def begin(self, planned: int, stored: int) -> None:
        """So many cells are planned, and so many of them are stored already."""

    def running(self, cell: Cell) -> None:
        """This cell is being measured."""

    def finished(self, cell: Cell, records: Sequence[Record]) -> None:
        """This cell is stored."""

    def ended(self, summary: Summary) -> None:
        """The run came to its end."""


class Silent:
    """Shows nothing."""

    def begin(self, planned: int, stored: int) -> None:
        """Nothing."""

    def running(self, cell: Cell) -> None:
        """Nothing."""

    def finished(self, cell: Cell, records: Sequence[Record]) -> None:
        """Nothing."""

    def ended(self, summary: Summary) -> None:
        """Nothing."""


@dataclass
class Summary:
    """What a run did.

    Args:
        planned: Cells of the selection.
        stored: Cells that were measured before.
        statuses: Records by status, of the cells measured now.
        seconds: How long it took.
        measuring: How much of that a suite was measuring; the rest went into planning, starting
            processes, loading plugins and storing.
    """

    planned: int = 0
    stored: int = 0
    statuses: dict[Status, int] = field(default_factory=dict)
    seconds: float = 0.0
    measuring: float = 0.0


def run(
    suites: Iterable[str] = (),
    *,
    preset: str = "quick",
    results: str | Path = DEFAULT_PATH,
    catalog: Catalog | None = None,
    plugins: Iterable[str | Path] = (),
    timeout: float = DEFAULT_TIMEOUT,
    memory_limit: int | None = None,
    malloc: str = "system",
    shard: Shard = (1, 1),
    progress: Progress | None = None,
    **axes: Any,
) -> Results:
    """Measure, and return the results; what is stored already is not measured again.

    Args:
        suites: Names of suites; none for all.
        preset: ``"quick"``, ``"standard"`` or ``"full"``.
        results: The results file.
        catalog: Where the variants come from; :func:`bakeoff.load` with ``plugins`` if None.
        plugins: Paths of plugin files.
        timeout: Seconds that one cell may take without a sign of life.
        memory_limit: Bytes that a job may allocate; None for 80% of the machine's memory.
        malloc: ``"system"``, or ``"tuned"``: less noise, and other rankings than a user's process
            has (see :data:`bakeoff.suites.environment.MALLOCS`).
        shard: ``(i, N)`` for the i-th of N parts; ``bakeoff merge`` joins their files.
        progress: Sees the run as it goes.
        **axes: Any field of :class:`bakeoff.suites.selection.Selection`: ``variants``, ``kinds``,
            ``tags``, ``forwards``, ``patterns``, ``seq_lens``, ``dtypes``, …; a single value
            counts as a tuple of one.

    Raises:
        UnknownNameError: For a suite, preset, axis or name that is not known.
        UsageError: For a value that an axis can't take.
        StoreError: Where the results file can't be used.

    Example:
        >>> import bakeoff, tempfile
        >>> file = tempfile.mkdtemp() + "/results.sqlite"
        >>> found = bakeoff.run("memory", variants="relu", seq_lens=64, results=file)
        >>> frame = found.to_pandas().query("metric == 'saved_bytes'")
        >>> dict(zip(frame.forward, frame.value))  # 64 × 256 numbers, or as many truth values
        {'reference': 16384.0, 'torch': 65536.0}
    """
    catalog = discover(plugins) if catalog is None else catalog
    require_malloc(malloc)
    # Planned before the file is opened, so that a wrong name leaves none behind.
    jobs = planned(catalog, suites, preset, axes, shard)
    limits = Limits(timeout, memory_limit)
    return execute(jobs, catalog, results, limits=limits, malloc=malloc, progress=progress)


def execute(
    jobs: Sequence[Job],
    catalog: Catalog,
    results: str | Path,
    *,
    limits: Limits,
    malloc: str = "system",
    progress: Progress | None = None,
) -> Results:
    """Measure what of these jobs is not stored yet, and return the results.

    Args:
        jobs: As the suites planned them.
        catalog: Where the variants are.
        results: The results file.
        limits: What a job may use; without a limit on memory, 80% of the machine's.
        malloc: As for :func:`run`.
        progress: Sees the run as it goes.

    Raises:
        StoreError: Where the results file can't be used.
    """
    started = time.monotonic()
    limits = replace(limits, memory=limits.memory or _most_memory())
    with Store(results) as store:
        recorder = _Recorder(catalog, store, progress or Silent())
        pending = recorder.pending(jobs, malloc)
        with Supervisor(catalog, limits, MALLOCS[malloc]) as supervisor:
            for job in pending:
                _run_job(job, supervisor, recorder)
            recorder.summary.measuring = supervisor.measuring
        recorder.summary.seconds = time.monotonic() - started
        recorder.progress.ended(recorder.summary)
    return Results(results)


def explain(
    suites: Iterable[str] = (),
    *,
    preset: str = "quick",
    results: str | Path = DEFAULT_PATH,
    catalog: Catalog | None = None,
    plugins: Iterable[str | Path] = (),
    malloc: str = "system",
    shard: Shard = (1, 1),
    **axes: Any,
) -> list[Explanation]:
    """What :func:`run` would measure with these arguments, and why; nothing is measured.

    Raises:
        UnknownNameError: As :func:`run`.
        UsageError: As :func:`run`.
        StoreError: Where the results file can't be read.
    """
    catalog = discover(plugins) if catalog is None else catalog
    require_malloc(malloc)
    jobs = planned(catalog, suites, preset, axes, shard)
    keys = identified(catalog, (cell for job in jobs for cell in job.cells), malloc)
    return explanations(keys, Results(results) if Path(results).exists() else None)


def _run_job(job: Job, supervisor: Supervisor, recorder: _Recorder) -> None:
    """Run a job; a cell that ends its process gets a row, and the others run again without it."""
    if job.ask:
        told = job.ask(recorder.store, recorder.environment_of(job.cells[0]))
        job = replace(job, settings={**job.settings, **told})
    for cell in job.cells:
        if reason := recorder.catalog.unclean.get(cell.variant):
            recorder.close(cell, Status.FAILED, reason)
    cells = tuple(recorder.left(job.cells))
    while cells:
        attempt = replace(job, cells=cells)
        outcome = supervisor.run(attempt, recorder.see, recorder.progress.running)
        if outcome.status == Status.OK:
            recorder.flush()
            for cell in recorder.left(cells):
                recorder.close(cell, Status.FAILED, "the suite returned no record for this cell")
            return
        # What the blamed cell had found so far is not to be trusted.
        blamed = cells[outcome.blamed]
        recorder.flush(without=blamed)
        recorder.close(blamed, outcome.status, outcome.reason)
        cells = tuple(recorder.left(cells))


class _Recorder:
    """Gathers the records of a cell, and stores the cell when the next one begins."""

    def __init__(self, catalog: Catalog, store: Store, progress: Progress) -> None:
        self.catalog, self.store, self.progress = catalog, store, progress
        self.summary = Summary()
        self._keys: dict[Cell, Identified] = {}
        self._done: set[str] = set()
        self._open: list[Record] = []
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

    def see(self, record: Record) -> None:
        """Take one record; it closes the cell before it."""
        if self._open and self._open[0].cell != record.cell:
            self.flush()
        self._open.append(record)

    def flush(self, without: Cell | None = None) -> None:
        """Store the open cell, unless it is the one whose records are to be dropped."""
        records, self._open = self._open, []
        if records and records[0].cell != without:
            self._commit(records)

    def close(self, cell: Cell, status: Status, reason: str) -> None:
        """Store a cell of which nothing could be measured."""
        if self._keys[cell].key not in self._done:
            self._commit([whole_cell(cell, status, reason)])

    def _commit(self, records: Sequence[Record]) -> None:
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


def _most_memory() -> int | None:
    """80% of the machine's memory, in bytes."""
    gib = environment()["memory_gib"]
    return int(0.8 * gib * 2**30) or None
