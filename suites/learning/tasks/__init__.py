"""The tasks, one module each; every ``TASKS`` is found by walking."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache

from bakeoff.registry.errors import UnknownNameError, did_you_mean
from bakeoff.suites.learning.task import Task

__all__ = ["all_tasks", "tasks_called"]


@cache
def all_tasks() -> dict[str, Task]:
    """Every task, by name.

    Example:
        >>> all_tasks()["mqar"].length
        32
    """
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {task.name: task for module in modules for task in module.TASKS}


def tasks_called(names: Iterable[str]) -> tuple[Task, ...]:
    """The tasks of these names; all where there is none.

    Raises:
        UnknownNameError: For a name that no task has.
    """
    known = all_tasks()
    for name in names:
        if name not in known:
            raise UnknownNameError(f"no task is called {name!r}; {did_you_mean(name, known)}")
    return tuple(known[name] for name in names) or tuple(known.values())
