"""How often races err: over equals, over planted slowdowns, within a process and between launches.

    python benchmarks/proof_races.py [equals] [planted] [launches] [clock] [--write]

Some twenty minutes a part, on a quiet machine. See docs/measuring.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from document import publish, table
from scipy import stats

import bakeoff
from bakeoff.reports.launches import pooled
from bakeoff.reports.rows import Row, rows_of
from bakeoff.suites.differences import difference

PLUGIN = Path(__file__).with_name("planted.py")
BASELINE = "planted_100:reference"
TRUE = {"planted_twin": "0%", "planted_103": "3%", "planted_110": "10%"}
LAUNCHES, SIDE = 200, 5

#: What equals are raced on: name, how often, and the axes.
EQUALS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("ReLU, 128 × 256", 150, {"variants": "relu_again", "seq_lens": 128, "directions": "forward"}),
    ("ReLU, 512 × 256, training", 100,
     {"variants": "relu_again", "seq_lens": 512, "directions": "training"}),
    ("fused attention, N = 128", 100,
     {"variants": "fused_again", "seq_lens": 128, "directions": "forward"}),
    ("fused attention, N = 512, training", 100,
     {"variants": "fused_again", "seq_lens": 512, "directions": "training"}),
    ("naive attention, N = 512", 100,
     {"variants": "naive_again", "seq_lens": 512, "directions": "forward",
      "baseline": "scaled_dot_product:reference"}),
)  # fmt: skip


def raced(**given: Any) -> pd.DataFrame:
    """The records of these races, in a results file of their own."""
    with tempfile.TemporaryDirectory() as folder:
        results = bakeoff.run(
            "speed", results=Path(folder) / "races.sqlite", plugins=[PLUGIN],
            **{"patterns": "self", **given},
        )  # fmt: skip
        return results.to_pandas()


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a race of one rival: ratio, ends, the floor, and the verdict."""
    keys = ["variant", "forward", "seed", "extra"]
    found = frame[frame.metric == "ratio"].set_index(keys)
    floors = frame[frame.metric == "noise_floor"].set_index(keys).value
    found = found[["value", "low", "high", "n"]].assign(floor=floors)
    verdicts = [difference(r.low, r.high, r.floor) for r in found.itertuples()]
    return found.assign(verdict=verdicts).reset_index()


def share(count: int, of: int) -> str:
    """A share with its 95% interval."""
    ends = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    return f"{100 * count / of:.1f}% [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def equals() -> None:
    """False differences: a rival that is the baseline."""
    rows, found = [], []
    for name, races, axes in EQUALS:
        one = ratios(raced(seeds=tuple(range(races)), budget=0.5, **axes))
        found.append(one)
        rows.append(_false(name, one))
    rows.append(_false("all", pd.concat(found)))
    headers = ("what", "races", "interval without 1", "false verdict", "half-width", "noise floor")
    publish("equals", table(headers, rows))


def _false(name: str, found: pd.DataFrame) -> Sequence[object]:
    outside = int(((found.low > 1) | (found.high < 1)).sum())
    told = int(found.verdict.isin(["faster", "slower"]).sum())
    width = np.median(found.high / found.low) ** 0.5 - 1
    return (
        name, len(found), share(outside, len(found)), share(told, len(found)),
        f"±{100 * width:.1f}%", f"{100 * (found.floor.median() - 1):.1f}%",
    )  # fmt: skip


def planted() -> None:
    """How often a slowdown is found, at two precisions."""
    rows: list[Sequence[object]] = []
    for precision, budget in ((0.03, 1.0), (0.01, 4.0)):
        found = ratios(
            raced(variants=tuple(TRUE), seq_lens=64, features=256, directions="forward",
                  baseline=BASELINE, seeds=tuple(range(100)), precision=precision, budget=budget)
        )  # fmt: skip
        for name, slowdown in TRUE.items():
            one = found[found.variant == name]
            rows.append((f"±{100 * precision:.0f}%", *_found(slowdown, one)))
    headers = ("asked", "planted", "races", "told slower", "told no difference", "undecided",
               "told faster", "median ratio", "rounds")  # fmt: skip
    publish("planted", table(headers, rows))


def _found(slowdown: str, one: pd.DataFrame) -> Sequence[object]:
    told = [share(int((one.verdict == verdict).sum()), len(one))
            for verdict in ("slower", "no difference", "undecided", "faster")]  # fmt: skip
    return (slowdown, len(one), *told, f"{one.value.median():.4f}", f"{one.n.median():.0f}")


def launches() -> None:
    """The same, with fresh processes as samples: five launches a verdict."""
    frame = raced(
        variants=tuple(TRUE), seq_lens=64, features=256, directions="forward", baseline=BASELINE,
        launches=LAUNCHES, budget=0.6,
    )  # fmt: skip
    frame = frame[frame.variant.isin(TRUE)]
    verdicts = list(_pooled(rows_of(frame)))
    rows = []
    for name, slowdown in TRUE.items():
        one = pd.DataFrame([v for v in verdicts if v["variant"] == name])
        rows.append(_found(slowdown, one)[:-1])
    headers = ("planted", "verdicts", "told slower", "told no difference", "undecided",
               "told faster", "median ratio")  # fmt: skip
    publish("launches", table(headers, rows))
    spreads = [
        (f"{name} ({slowdown} more)", *(_between(frame, name, metric)
                                        for metric in ("time", "kernel_ratio", "ratio")))
        for name, slowdown in TRUE.items()
    ]  # fmt: skip
    headers = ("rival", "time", "ratio to the reference kernel", "ratio to the baseline")
    publish("between", table(headers, spreads))


def _pooled(rows: Iterable[Row]) -> Iterable[dict[str, Any]]:
    """Verdicts of disjoint groups of five launches, each as a report gives it."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        extra = json.loads(row.axes["extra"])
        group = (extra["launch"] - 1) // SIDE
        groups.setdefault(group, []).append(row)
    for group in groups.values():
        found = pooled(group)
        floors = {row.rival: row.value for row in found if row.metric == "noise_floor"}
        for row in found:
            if row.metric == "ratio":
                told = difference(row.low, row.high, floors[row.rival])
                yield {"variant": row.axes["variant"], "value": row.value, "verdict": told, "n": 5}


def _between(frame: pd.DataFrame, name: str, metric: str) -> str:
    """The standard deviation of a metric's logarithm between processes."""
    values = frame[(frame.variant == name) & (frame.metric == metric)].value
    return f"{100 * np.log(values).std():.1f}%"


TIMER = """
import sys, torch
from torch.utils.benchmark import Timer
import bakeoff
from bakeoff.suites.calls import Call
from bakeoff.suites.records import Cell
import json
torch.set_num_threads(1)
cell = Cell.from_json(json.loads(sys.argv[1]))
call = Call.of(bakeoff.load()[cell.variant], cell)
print(Timer("run()", globals={"run": call.forward}).blocked_autorange(min_run_time=1.0).median)
"""

CLOCKED = (
    ("relu:torch", 512), ("gelu:torch", 512), ("softmax:torch", 512),
    ("scaled_dot_product:sdpa", 128), ("scaled_dot_product:sdpa", 512),
    ("scaled_dot_product:sdpa", 1024), ("scaled_dot_product:reference", 128),
)  # fmt: skip


def clock() -> None:
    """Times against torch.utils.benchmark, each side in five fresh processes."""
    from bakeoff.suites.product import expand
    from bakeoff.suites.selection import selection_for

    rows = []
    catalog = bakeoff.load()
    for label, n in CLOCKED:
        name, _, forward = label.partition(":")
        axes = {"variants": (name,), "forwards": (forward,), "seq_lens": (n,),
                "directions": ("forward",), "patterns": ("self",)}  # fmt: skip
        (cell,) = expand("speed", 2, catalog, selection_for("quick", "speed", axes))
        ours, theirs = [], []
        for seed in range(SIDE):
            frame = raced(**axes, seeds=seed, budget=1.0, launches=2)
            times = frame[(frame.metric == "time") & (frame.variant == name)].value
            ours.append(float(times.iloc[0]))
            told = json.dumps(replace(cell, case=replace(cell.case, seed=seed)).to_json())
            command = [sys.executable, "-c", TIMER, told]
            theirs.append(float(subprocess.run(command, capture_output=True, check=True).stdout))
        ratio = np.median(ours) / np.median(theirs)
        rows.append((label, n, *(_microseconds(side) for side in (ours, theirs)), f"{ratio:.3f}"))
    headers = ("forward", "N", "bakeoff, median (range)", "torch.utils.benchmark", "ratio")
    publish("clock", table(headers, rows))


def _microseconds(values: Sequence[float]) -> str:
    scaled = [1e6 * value for value in values]
    return f"{np.median(scaled):.1f} µs ({min(scaled):.1f} to {max(scaled):.1f})"


if __name__ == "__main__":
    parts = {"equals": equals, "planted": planted, "launches": launches, "clock": clock}
    for part in [argument for argument in sys.argv[1:] if argument in parts] or parts:
        parts[part]()
