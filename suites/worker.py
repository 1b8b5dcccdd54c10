"""The process in which jobs run: ``python -m bakeoff.suites.worker PARENT``, driven by its pipes.

It imports torch, runs no operation, and forks a child for each job: a fork after the first
parallel operation would hang, and a fork costs milliseconds where a fresh start costs seconds.
Plugins are loaded in the child, since a plugin may compute while it is imported. With ``--once``
it runs one job in itself, for devices whose state does not survive a fork.

A request is one line of JSON on standard input; events are lines of JSON on standard output.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import importlib
import json
import mmap
import os
import pkgutil
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import BUILT_IN, discover
from bakeoff.suites.records import Cell, Record
from bakeoff.suites.spec import Job, suites_of
from bakeoff.suites.verdicts import brief, status_of

__all__ = ["PLACE", "load_catalog", "main"]

#: Where a child notes what it runs: (announcements so far, index of the cell). A write to shared
#: memory wakes nobody up, so it disturbs no measurement.
PLACE = struct.Struct("qq")
#: How large a file may become that a job writes, what it prints among them: compilers write
#: headers of some hundred MiB.
MOST_FILE_BYTES = 2**30

Emit = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Serve requests until standard input ends."""
    parent, *once = sys.argv[1:]
    _die_with_parent(int(parent))
    emit = _emitter()
    if once:
        _job(json.loads(sys.stdin.readline()), emit)
        return
    _import_built_in()
    gc.freeze()
    for line in sys.stdin:
        request, own = json.loads(line), os.getpid()
        pid = os.fork()
        if pid == 0:
            _child(request, emit, own)
        emit({"pid": pid})
        _, status = os.waitpid(pid, 0)
        emit({"exit": os.waitstatus_to_exitcode(status)})


def load_catalog(request: Mapping[str, Any]) -> Catalog:
    """The catalog that the main process sees: the same plugins, and what a notebook added."""
    import cloudpickle

    catalog = discover(request["plugins"], pyproject=False, skip=request["skip"])
    added = cloudpickle.loads(base64.b64decode(request["added"]))
    return catalog.with_variants(*added)


def _child(request: Mapping[str, Any], emit: Emit, parent: int) -> None:
    """Run one job and leave, whatever happens; nothing of it returns to the serving loop."""
    code = 1
    try:
        os.setsid()
        _die_with_parent(parent)
        _job(request, emit)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def _job(request: Mapping[str, Any], emit: Emit) -> None:
    """Measure the cells of a request and emit their records."""
    _redirect_output(request["output"])
    _limit_memory(request["memory_limit"])
    sys.path[:] = request["path"]
    cells = tuple(Cell.from_json(cell) for cell in request["cells"])
    torch.set_num_threads(cells[0].case.threads)
    index = {cell: i for i, cell in enumerate(cells)}
    with open(request["place"], "r+b") as file:
        place = mmap.mmap(file.fileno(), PLACE.size)
    announced = 0

    def announce(cell: Cell) -> None:
        nonlocal announced
        announced += 1
        place[:] = PLACE.pack(announced, index[cell])

    try:
        catalog = load_catalog(request)
        suite = suites_of(catalog, [cells[0].suite])[cells[0].suite]
        job = Job(cells, request["settings"], catalog, announce)
        emit({"measuring": True})
        for record in suite.measure(job):
            emit({"cell": index[record.cell], "record": _row(record)})
    except BaseException as error:  # a plugin may raise SystemExit
        traceback.print_exc()
        emit({"failed": str(status_of(error)), "reason": brief(error)})
        return
    emit({"done": True})


def _row(record: Record) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k != "cell"}


def _emitter() -> Emit:
    """Writes events to the pipe, which plugins can't reach: their prints go to a file."""
    pipe = os.dup(1)
    os.dup2(2, 1)

    def emit(event: Mapping[str, Any]) -> None:
        # A child may have died within a line: begin a new one.
        data = f"\n{json.dumps(event)}\n".encode()
        while data:
            data = data[os.write(pipe, data) :]

    return emit


def _redirect_output(path: str) -> None:
    """Everything that is printed goes to a file of limited size."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)


def _limit_memory(limit: int | None) -> None:
    try:
        import resource
    except ImportError:
        return

    def lower(which: int, size: int) -> None:
        # A user's own limit may be lower already, and must not be raised.
        hard = resource.getrlimit(which)[1]
        least = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(which, (least, least))

    if limit:
        lower(resource.RLIMIT_DATA, limit)
    lower(resource.RLIMIT_FSIZE, MOST_FILE_BYTES)
    lower(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def _die_with_parent(parent: int) -> None:
    """Linux: be killed when the parent is, so that no orphan survives it."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be heard of
            os._exit(1)


def _import_built_in() -> None:
    """Import our own plugins, which compute nothing at import, once for all children.

    So with what a suite imports late, which would take each child a third of a second.
    """
    for name in ("scipy.optimize", "scipy.integrate"):
        importlib.import_module(name)
    for name in BUILT_IN:
        package = importlib.import_module(name)
        for info in pkgutil.walk_packages(package.__path__, f"{name}."):
            # A broken one is reported by the child that loads it through discovery.
            with suppress(Exception):
                importlib.import_module(info.name)


if __name__ == "__main__":
    main()
