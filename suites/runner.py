"""Plans the cells, leaves out what is measured already, runs the jobs and stores what comes."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import discover
from bakeoff.registry.errors import UsageError
from bakeoff.suites.environment import MALLOCS, environment, require_malloc
from bakeoff.suites.explain import Explanation, explanations
from bakeoff.suites.identity import identified
from bakeoff.suites.planning import Shard, planned
from bakeoff.suites.pool import run_all
from bakeoff.suites.progress import Progress, Silent
from bakeoff.suites.recorder import Gathered, Recorder
from bakeoff.suites.records import Status
from bakeoff.suites.selection import DEFAULT_TIMEOUT
from bakeoff.suites.spec import Job
from bakeoff.suites.store import DEFAULT_PATH, Results, Store
from bakeoff.suites.supervisor import Limits, Supervisor

__all__ = ["execute", "explain", "run"]

#: Memory that a worker beside others should have.
_WORKER_GIB = 8


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
    workers: int | None = None,
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
        workers: How many jobs run side by side where nothing is timed; None for as many as there
            are cores, with 8 GiB of memory for each.
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
    return execute(
        jobs,
        catalog,
        results,
        limits=limits,
        malloc=malloc,
        workers=workers,
        progress=progress,
    )


def execute(
    jobs: Sequence[Job],
    catalog: Catalog,
    results: str | Path,
    *,
    limits: Limits,
    malloc: str = "system",
    workers: int | None = None,
    progress: Progress | None = None,
    variables: Mapping[str, str] | None = None,
) -> Results:
    """Measure what of these jobs is not stored yet, and return the results.

    Args:
        jobs: As the suites planned them.
        catalog: Where the variants are.
        results: The results file.
        limits: What a job may use; without a limit on memory, 80% of the machine's.
        malloc: As for :func:`run`.
        workers: As for :func:`run`.
        progress: Sees the run as it goes.
        variables: Environment variables that workers get beside those of this process.

    Raises:
        UsageError: For a number of workers that can't be.
        StoreError: Where the results file can't be used.
    """
    started, size = time.monotonic(), _crew_size(workers)
    limits = replace(limits, memory=limits.memory or _most_memory())
    with Store(results) as store:
        recorder = Recorder(catalog, store, progress or Silent())
        pending = recorder.pending(jobs, malloc)
        with ExitStack() as stack:
            crew = [
                stack.enter_context(
                    Supervisor(catalog, limits, {**MALLOCS[malloc], **(variables or {})})
                )
                for _ in range(size)
            ]
            beside = _run_jobs(pending, crew, recorder)
            recorder.summary.measuring = sum(supervisor.measuring for supervisor in crew)
        recorder.summary.seconds = time.monotonic() - started
        recorder.summary.available = recorder.summary.seconds + beside
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


def _run_jobs(jobs: Iterable[Job], crew: Sequence[Supervisor], recorder: Recorder) -> float:
    """Run the jobs in their order; a race has the machine for itself.

    Returns:
        The seconds that workers had beside the first.
    """
    beside = 0.0
    for untimed, group in groupby(jobs, key=lambda job: job.untimed):
        tasks = [partial(_run_job, job, recorder) for job in group]
        hands = crew[: len(tasks)] if untimed else crew[:1]
        started = time.monotonic()
        run_all(tasks, hands)
        beside += (len(hands) - 1) * (time.monotonic() - started)
    return beside


def _run_job(job: Job, recorder: Recorder, supervisor: Supervisor) -> Generator[int, None, None]:
    """Run a job; a cell that ends its process gets a row, and the others run again without it."""
    if job.ask:
        told = job.ask(recorder.store, recorder.environment_of(job.cells[0]))
        job = replace(job, settings={**job.settings, **told})
    for cell in job.cells:
        if reason := recorder.catalog.unclean.get(cell.variant):
            recorder.close(cell, Status.FAILED, reason)
    cells = tuple(recorder.left(job.cells))
    while cells:
        attempt, gathered = replace(job, cells=cells), Gathered(recorder)
        outcome = yield from supervisor.run(attempt, gathered.see, recorder.progress.running)
        if outcome.status == Status.OK:
            gathered.flush()
            for cell in recorder.left(cells):
                recorder.close(cell, Status.FAILED, "the suite returned no record for this cell")
            return
        # What the blamed cell had found so far is not to be trusted.
        blamed = cells[outcome.blamed]
        gathered.flush(without=blamed)
        recorder.close(blamed, outcome.status, outcome.reason)
        cells = tuple(recorder.left(cells))


def _crew_size(workers: int | None) -> int:
    """How many workers there may be at once."""
    if workers is not None and workers < 1:
        raise UsageError(f"workers: got {workers}, expected a number of at least 1")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rooms = int(environment()["memory_gib"] / _WORKER_GIB)
    return workers or max(1, min(cores or 1, rooms))


def _most_memory() -> int | None:
    """80% of the machine's memory, in bytes."""
    gib = environment()["memory_gib"]
    return int(0.8 * gib * 2**30) or None
