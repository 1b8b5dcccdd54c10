"""Joins results files: those of shards, of several machines, of several people."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bakeoff.registry.errors import UsageError
from bakeoff.suites.store import CELL, INSERT_RECORD, RECORD, Results, Store

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Args:
        cells: How many measurements of cells were added.
        again: How many of them are of a cell that was there: measured twice, both are kept, and
            reports show the later one.
        same: How many were left out because that very measurement was there.
    """

    cells: int = 0
    again: int = 0
    same: int = 0


def merge(files: Iterable[str | Path], into: str | Path) -> Merged:
    """Add what ``files`` hold to the results file ``into``, each file whole or not at all.

    Args:
        files: Results files; they are only read.
        into: A results file; made where there is none.

    Raises:
        UsageError: Where ``into`` is one of the files, or there is none.
        StoreError: Where a file can't be read, or ``into`` can't be written.
    """
    paths = [Path(file) for file in files]
    target = Path(into)
    if not paths:
        raise UsageError("merge: got no file, expected at least one results file")
    for path in paths:
        if path.resolve() == target.resolve():
            raise UsageError(
                f"merge: {path} is both a file to read and the one to write; name another to write"
            )
    sources = [Results(path) for path in paths]  # all are checked before any is added
    added = Merged()
    with Store(target) as store:
        for source in sources:
            with source.reading() as db, store.transaction() as out:
                one = _add(db, out)
            added = Merged(added.cells + one.cells, added.again + one.again, added.same + one.same)
    return added


def _add(source: sqlite3.Connection, target: sqlite3.Connection) -> Merged:
    columns = ", ".join(CELL)
    known: dict[str, set[float]] = {}
    for key, at in target.execute("SELECT key, measured_at FROM cells"):
        known.setdefault(key, set()).add(at)
    target.executemany(
        "INSERT OR IGNORE INTO environments VALUES (?, ?)",
        source.execute("SELECT id, description FROM environments"),
    )
    numbers: dict[int, int] = {}
    again = same = 0
    marks = ", ".join("?" * len(CELL))
    for number, *cell in source.execute(f"SELECT id, {columns} FROM cells ORDER BY id"):
        key, at = cell[0], cell[CELL.index("measured_at")]
        if at in known.get(key, ()):
            same += 1
            continue
        again += key in known
        known.setdefault(key, set()).add(at)
        row = target.execute(f"INSERT INTO cells ({columns}) VALUES ({marks})", cell)
        assert row.lastrowid is not None
        numbers[number] = row.lastrowid
    records = source.execute(f"SELECT cell, {', '.join(RECORD)} FROM records")
    target.executemany(
        INSERT_RECORD, ((numbers[cell], *row) for cell, *row in records if cell in numbers)
    )
    return Merged(len(numbers), again, same)
