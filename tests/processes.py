"""Other processes, for tests: waiting for what they do, and finding those that are left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["processes_in", "until"]


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that must come, and fail where it does not."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """Processes that began in this folder and still live, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            here = Path(os.readlink(entry / "cwd")) == folder
        except (OSError, ValueError):
            continue
        if here and entry.name not in ("self", "thread-self", str(os.getpid())):
            found.append(entry.name)
    return found
