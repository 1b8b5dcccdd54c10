"""Several supervised jobs at once, in one thread: whoever has news goes on."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Generator, Iterable, Sequence

from bakeoff.suites.supervisor import LOOK_SECONDS, Supervisor

__all__ = ["Task", "run_all"]

#: Does its work with a supervisor, and yields the file descriptor for whose news it waits.
Task = Callable[[Supervisor], Generator[int, None, None]]


def run_all(tasks: Iterable[Task], supervisors: Sequence[Supervisor]) -> None:
    """Run the tasks in their order, as many side by side as there are supervisors."""
    waiting, idle = iter(tasks), list(supervisors)
    running: dict[Supervisor, Generator[int, None, None]] = {}
    while True:
        while idle and (task := next(waiting, None)):
            supervisor = idle.pop()
            running[supervisor] = task(supervisor)
        if not running:
            return
        awaited = {supervisor: next(steps, None) for supervisor, steps in running.items()}
        ended = [supervisor for supervisor, descriptor in awaited.items() if descriptor is None]
        for supervisor in ended:
            del running[supervisor]
        idle += ended
        if not ended:
            _wait(descriptor for descriptor in awaited.values() if descriptor is not None)


def _wait(descriptors: Iterable[int]) -> None:
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        selector.select(LOOK_SECONDS)
