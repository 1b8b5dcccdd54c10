"""What is not measuring in a run, and a million records in a report.

python benchmarks/proof_scale.py [overhead] [records] [--write]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from document import publish, table

import bakeoff
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import document
from bakeoff.reports.page import page
from bakeoff.reports.text import terminal
from bakeoff.suites.identity import Identified
from bakeoff.suites.progress import Silent, Summary
from bakeoff.suites.store import Results, Store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic import cells

RECORDS = 10**6


class Remembered(Silent):
    """A progress that keeps the summary."""

    summary = Summary()

    def ended(self, summary: Summary) -> None:
        """The run came to its end."""
        self.summary = summary


def overhead() -> None:
    """The quick preset, by suite and whole."""
    rows: list[Sequence[object]] = []
    for suites in (("accuracy",), ("gradient",), ("memory",), ("scaling",), ("speed",), ()):
        with tempfile.TemporaryDirectory() as folder:
            seen = Remembered()
            bakeoff.run(suites, results=Path(folder) / "quick.sqlite", progress=seen)
        summary = seen.summary
        share = f"{100 * (1 - summary.measuring / summary.available):.1f}%"
        rows.append((*(suites or ("all",)), summary.planned, f"{summary.seconds:.0f} s", share))
    publish("overhead", table(("quick preset", "cells", "time", "not measuring"), rows))


def records() -> None:
    """Store a million records as a run does, read them, and report on them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.sqlite"
        rows = [
            timed(
                "stored, one transaction a cell, without waiting for the disk", lambda: _fill(path)
            )
        ]
        results = Results(path)
        size = path.stat().st_size / 2**20
        rows.append(timed("read into a frame", results.to_pandas))
        rows.append(timed("report for the terminal", lambda: _report(results)))
        html = Path(folder) / "report.html"
        rows.append(timed("report as a page", lambda: html.write_text(_page(results))))
        rows.append(("size of the results file", f"{size:.0f} MiB"))
        rows.append(("size of the page", f"{html.stat().st_size / 2**20:.1f} MiB"))
    publish("records", table((f"{RECORDS:,} records", ""), rows))


def timed(what: str, call: Callable[[], object]) -> tuple[str, str]:
    """How long a call took, in words."""
    started = time.monotonic()
    call()
    return what, f"{time.monotonic() - started:.1f} s"


def _fill(path: Path) -> None:
    """The synthetic results of the tests, as so many launches."""
    count, launch = 0, 0
    with Store(path) as store:
        store._db.execute("PRAGMA synchronous=OFF")  # a quarter of a million waits for the disk
        while count < RECORDS:
            launch += 1
            for cell, found in cells():
                own = replace(cell, extra={**cell.extra, "launch": launch})
                moved = [replace(record, cell=own) for record in found]
                store.add(Identified(f"{count}", "", "", {"cpu": "one"}), own, moved)
                count += len(moved)


def _report(results: Results) -> str:
    return terminal(document(contents_of(results), wide=False))


def _page(results: Results) -> str:
    return page(document(contents_of(results), wide=True))


if __name__ == "__main__":
    parts = {"overhead": overhead, "records": records}
    for part in [argument for argument in sys.argv[1:] if argument in parts] or parts:
        parts[part]()
