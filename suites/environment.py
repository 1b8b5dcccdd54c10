"""What the machine is: stored with every cell, and part of what tells cells apart."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["digest_of", "environment"]


@cache
def environment(device: str = "cpu") -> dict[str, Any]:
    """Everything about the machine and the software that can change a number.

    Args:
        device: The device measured, for its name.
    """
    import torch

    return {
        "bakeoff": version("bakeoff"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "device": _device_name(device),
        "malloc": {n: v for n, v in sorted(os.environ.items()) if n.startswith("MALLOC_")},
        "memory_gib": _memory_gib(),
        "numpy": version("numpy"),
        "preload": os.environ.get("LD_PRELOAD", ""),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "torch": torch.__version__,
    }


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
