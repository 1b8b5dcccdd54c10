"""What the machine is: stored with every cell, and part of what tells cells apart."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bakeoff.registry.errors import UnknownNameError, UsageError, did_you_mean

__all__ = ["MALLOCS", "digest_of", "environment", "require_malloc"]

#: How glibc's allocator is set in the process that measures. Under the system's own settings
#: (what a user has) large tensors cost page faults, and by chance: fresh processes differ by a
#: factor of two. ``tuned`` keeps memory for the next call, which takes most of that noise away
#: and shifts rankings: a mode of its own, never compared with the other.
MALLOCS: Mapping[str, Mapping[str, str]] = {
    "system": {},
    "tuned": {
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TOP_PAD_": str(2**26),
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
    },
}

#: What makes torch and oneDNN use the kernels of an older CPU.
KERNELS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


@cache
def environment(device: str = "cpu", malloc: str = "system") -> dict[str, Any]:
    """Everything about the machine and the software that can change a number.

    Args:
        device: The device measured, for its name.
        malloc: One of :data:`MALLOCS`.
    """
    import torch

    kernels = {name: os.environ[name] for name in KERNELS if name in os.environ}
    return {
        **({"kernels": kernels} if kernels else {}),
        "bakeoff": version("bakeoff"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "device": _device_name(device),
        "malloc": {
            **{n: v for n, v in sorted(os.environ.items()) if n.startswith("MALLOC_")},
            **MALLOCS[malloc],
        },
        "memory_gib": _memory_gib(),
        "numpy": version("numpy"),
        "preload": os.environ.get("LD_PRELOAD", ""),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "torch": torch.__version__,
    }


def require_malloc(name: str) -> None:
    """Refuse a setting of the allocator that there is not.

    Raises:
        UnknownNameError: For a name that :data:`MALLOCS` has not.
        UsageError: Where the system's allocator can't be set this way.
    """
    if name not in MALLOCS:
        raise UnknownNameError(f"malloc: got {name!r}; {did_you_mean(name, MALLOCS)}")
    if MALLOCS[name] and platform.libc_ver()[0] != "glibc":
        raise UsageError(f"malloc: {name!r} sets glibc's allocator, which this system has not")


def digest_of(value: Any) -> str:
    """A short, stable digest of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return 0.0


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return device
