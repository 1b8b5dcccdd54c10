"""Runs jobs in worker processes, and turns every way in which one can end into an outcome."""

from __future__ import annotations

import base64
import json
import math
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.spec import Job
from bakeoff.suites.worker import PLACE

__all__ = ["LOOK_SECONDS", "Limits", "Outcome", "Supervisor"]

#: How often a running job is looked at. Each look wakes this process up: not too often.
LOOK_SECONDS = 0.2
#: torch and the plugins must be imported within this time.
START_SECONDS = 120.0
#: A job that prints more is killed before it fills the disk.
MOST_OUTPUT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Limits:
    """What a job may use.

    Args:
        timeout: Seconds without a sign of life: for one cell, or one sample of a race.
        memory: Bytes of private memory; None for no limit.
    """

    timeout: float
    memory: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: Ok where it came to its end.
        reason: Why not.
        blamed: The index of the cell that was running when it did not.
    """

    status: Status
    reason: str = ""
    blamed: int = 0


class Supervisor:
    """Keeps one worker alive and hands it job after job.

    Args:
        catalog: What workers must load.
        limits: What a job may use.
        variables: Environment variables that workers get beside those of this process.
    """

    def __init__(
        self, catalog: Catalog, limits: Limits, variables: Mapping[str, str] | None = None
    ) -> None:
        self.catalog, self.limits = catalog, limits
        self.variables = dict(variables or {})
        #: Seconds that suites were measuring, over all jobs.
        self.measuring = 0.0
        self._began = math.inf
        self._folder = tempfile.TemporaryDirectory(prefix="bakeoff-")
        self._place = Path(self._folder.name) / "place"
        self._output = Path(self._folder.name) / "output"
        self._worker: subprocess.Popen[bytes] | None = None
        self._child: int | None = None
        self._forks = False

    def run(
        self, job: Job, store: Callable[[Record], None], look: Callable[[Cell], None]
    ) -> Generator[int, None, Outcome]:
        """Run one job to its end, whatever that is.

        Args:
            job: What to run.
            store: Called with each record as it comes.
            look: Called now and then with the cell that is running.

        Yields:
            The file descriptor to wait for, whenever there is nothing to do: to be resumed when
            it is readable, or after :data:`LOOK_SECONDS`.
        """
        self._place.write_bytes(bytes(PLACE.size))
        self._output.write_bytes(b"")  # what an earlier job printed is not this one's
        on_cpu = job.cells[0].case.device == "cpu"
        forking = hasattr(os, "fork") and on_cpu and not job.fresh
        worker = self._started(forking)
        request = json.dumps(self._request(job)).encode() + b"\n"
        try:
            assert worker.stdin is not None
            worker.stdin.write(request)
            worker.stdin.flush()
        except OSError as error:
            self.close_worker()
            return Outcome(Status.CRASHED, f"the worker could not be reached: {error}")
        outcome = yield from self._watch(worker, job, store, look)
        self.measuring += max(0.0, time.monotonic() - self._began)
        if not forking:
            self.close_worker()
        return outcome

    def close(self) -> None:
        """Kill what runs and remove the working files."""
        self.close_worker()
        self._folder.cleanup()

    def close_worker(self) -> None:
        """Kill the worker with its child, and wait for it."""
        self._reap()
        if self._worker is not None:
            _kill_group(self._worker.pid)
            self._worker.communicate()
            self._worker = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, forking: bool) -> subprocess.Popen[bytes]:
        if self._worker is not None and (self._forks != forking or self._worker.poll() is not None):
            self.close_worker()
        if self._worker is None:
            # -P: a file in the working directory must not pass for a module of ours.
            command = [sys.executable, "-P", "-m", "bakeoff.suites.worker", str(os.getpid())]
            self._worker = subprocess.Popen(
                command if forking else [*command, "--once"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the main process
                env={
                    **os.environ,
                    **self.variables,
                    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                },
            )
            self._forks = forking
            if not forking:
                self._child = self._worker.pid
        return self._worker

    def _request(self, job: Job) -> dict[str, Any]:
        return {
            "cells": [cell.to_json() for cell in job.cells],
            "settings": dict(job.settings),
            "plugins": list(self.catalog.sources),
            "skip": sorted({self.catalog.origins[name] for name in self.catalog.unclean}),
            "added": _pickled(self.catalog),
            "path": [p for p in sys.path if p],
            "place": str(self._place),
            "output": str(self._output),
            "memory_limit": self.limits.memory,
        }

    def _watch(
        self,
        worker: subprocess.Popen[bytes],
        job: Job,
        store: Callable[[Record], None],
        look: Callable[[Cell], None],
    ) -> Generator[int, None, Outcome]:
        """Follow a job's events until its process has ended or is killed for its silence."""
        outcome: Outcome | None = None
        last_place, last_sign = (0, 0), time.monotonic()
        patience = max(START_SECONDS, self.limits.timeout)
        self._began = math.inf
        assert worker.stdout is not None
        for event in self._events(worker.stdout.fileno()):
            if not event:
                yield worker.stdout.fileno()
            place = self._running()
            if place != last_place or event:
                last_place, last_sign = place, time.monotonic()
                patience = self.limits.timeout if place[0] else patience
            look(job.cells[place[1]])
            if "pid" in event:
                self._child = event["pid"]
            elif "record" in event:
                row = event["record"] | {"status": Status(event["record"]["status"])}
                store(Record(job.cells[event["cell"]], **row))
            elif "measuring" in event:
                self._began = time.monotonic()
            elif "done" in event:
                outcome = Outcome(Status.OK)
            elif "failed" in event:
                outcome = Outcome(Status(event["failed"]), event["reason"], place[1])
            elif "exit" in event:
                self._reap()
                return outcome or self._ended(event["exit"], place[1])
            if time.monotonic() - last_sign > patience:
                self.close_worker()
                reason = f"no result within {patience:g} s, it was killed"
                return Outcome(Status.TIMEOUT, reason, place[1])
            if self._printed() > MOST_OUTPUT_BYTES:
                self.close_worker()
                reason = f"it printed more than {MOST_OUTPUT_BYTES // 2**20} MiB, it was killed"
                return Outcome(Status.CRASHED, reason, place[1])
        code = worker.wait()
        self.close_worker()
        return outcome or self._ended(code, self._running()[1])

    def _events(self, descriptor: int) -> Iterator[Mapping[str, Any]]:
        """The events that have come, and an empty one where none has; ends with the pipe."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                if not selector.select(0):
                    yield {}
                    continue
                data = os.read(descriptor, 1 << 16)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    # A line that a dying child left unfinished is not an event.
                    with suppress(ValueError):
                        yield json.loads(line)

    def _running(self) -> tuple[int, int]:
        with self._place.open("rb") as file:
            announced, index = PLACE.unpack(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return announced, index

    def _reap(self) -> None:
        """Kill what a job that has ended may have left: processes that it started."""
        if self._child is not None:
            _kill_group(self._child)
            self._child = None

    def _printed(self) -> int:
        return self._output.stat().st_size

    def _ended(self, code: int, blamed: int) -> Outcome:
        """What an exit that nobody announced means."""
        if code == -signal.SIGKILL:
            reason = "killed by the system, most likely because memory ran out"
            return Outcome(Status.OOM, reason, blamed)
        if code < 0:
            what = f"was killed by {signal.Signals(-code).name}"
        else:
            what = f"exited with status {code} before its end"
        return Outcome(Status.CRASHED, f"the process {what}{self._last_words()}", blamed)

    def _last_words(self) -> str:
        """The last line that the job printed."""
        try:
            with self._output.open("rb") as file:
                file.seek(max(0, self._output.stat().st_size - 2000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1].strip()[:200]}" if lines else ""


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _pickled(catalog: Catalog) -> str:
    """The variants of a notebook, by value: a worker can't import what lives in __main__."""
    import cloudpickle

    homes = {v.forward(name).fn.__module__ for v in catalog.added for name in v.forwards}
    foreign = {name for name in homes if not name.startswith(("torch", "bakeoff.", "__main__"))}
    own = [sys.modules[name] for name in foreign if name in sys.modules]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return base64.b64encode(cloudpickle.dumps(catalog.added)).decode()
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
