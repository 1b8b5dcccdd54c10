"""Reads the JSON of pytest-benchmark as results: medians, with an interval from the quartiles."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bakeoff.registry.errors import UsageError
from bakeoff.suites.environment import digest_of
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import TIMED_OUTPUT, Cell, Record, Status
from bakeoff.suites.store import Results, Store

__all__ = ["FAULT", "HARNESS", "KEY", "results_of"]

#: Where a benchmark's ``extra_info`` holds its cell, and the file its environment.
KEY = "bakeoff"
#: Where it holds what was wrong with a timed output.
FAULT = "bakeoff_fault"
#: What tells these times from those of a race: each is measured alone, one after the other.
HARNESS = {"harness": "pytest-benchmark"}
#: Half the width of a median's interval, in interquartile ranges over √n (McGill, Tukey and
#: Larsen, 1978, Variations of Box Plots, section 7): from the quartiles alone.
NOTCH = 1.57


def results_of(path: str | Path, folder: str | Path) -> tuple[Results, int]:
    """The benchmarks of a file as a results file in ``folder``, and how many are not bakeoff's.

    Raises:
        UsageError: Where it is no such file, or holds no benchmark of bakeoff.
    """
    path = Path(path)
    data = _read(path)
    own = [b for b in data["benchmarks"] if KEY in b.get("extra_info", {})]
    if not own:
        raise UsageError(
            f"{path}: it holds no benchmark of a variant; `pytest --bakeoff-variant NAME "
            "--bakeoff-speed --benchmark-json FILE` makes one"
        )
    machine = data.get("machine_info", {})
    environment = machine.get(KEY) or _environment(machine)
    made = Path(folder) / path.name
    at = _time(data.get("datetime"))
    cells = [_cell(path, benchmark) for benchmark in own]
    with Store(made) as store:
        for cell, benchmark in zip(cells, own, strict=True):
            key = digest_of([cell.axes(), environment])
            store.add(Identified(key, "", "", environment), cell, _records(cell, benchmark), at)
    return Results(made), len(data["benchmarks"]) - len(own)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}; expected the JSON of pytest-benchmark") from error
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise UsageError(f"{path}: it has no list of benchmarks, as the JSON of pytest-benchmark")
    return data


def _cell(path: Path, benchmark: Mapping[str, Any]) -> Cell:
    try:
        return Cell.from_json(benchmark["extra_info"][KEY])
    except (KeyError, TypeError, ValueError) as error:
        name = benchmark.get("fullname", "a benchmark")
        raise UsageError(
            f"{path}: {name}: its extra_info is of another version ({error})"
        ) from error


def _records(cell: Cell, benchmark: Mapping[str, Any]) -> list[Record]:
    if fault := benchmark["extra_info"].get(FAULT):
        return [Record(cell, TIMED_OUTPUT, status=Status.WRONG, reason=str(fault))]
    stats = benchmark["stats"]
    median, n = float(stats["median"]), int(stats["rounds"])
    half = NOTCH * float(stats["iqr"]) / math.sqrt(n)
    low, high = max(0.0, median - half), median + half
    return [Record(cell, "time", median, "s", low, high, n)]


def _environment(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of the machine, where it was written without our plugin."""
    return {
        "cpu": machine.get("cpu", {}).get("brand_raw", machine.get("processor", "")),
        "python": machine.get("python_version", ""),
        "system": f"{machine.get('system', '')} {machine.get('release', '')}".strip(),
    }


def _time(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
