"""The results file: SQLite, one row a cell, one row a record, committed cell by cell."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import BakeoffError
from bakeoff.suites.environment import digest_of
from bakeoff.suites.records import AXES, Cell, Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_PATH", "SCHEMA_VERSION", "Results", "Store", "StoreError", "open_results"]

SCHEMA_VERSION = 1
#: Marks the file as ours ("bkof"), so that another program's database is never written to.
APPLICATION_ID = 0x626B6F66
DEFAULT_PATH = Path("bakeoff-results.sqlite")

_SCHEMA = f"""
CREATE TABLE environments (id TEXT PRIMARY KEY, description TEXT NOT NULL) STRICT;
CREATE TABLE cells (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    measured_at REAL NOT NULL,
    environment TEXT NOT NULL REFERENCES environments (id),
    {", ".join(f"{axis} ANY" for axis in AXES)}
) STRICT;
CREATE TABLE records (
    cell INTEGER NOT NULL REFERENCES cells (id),
    metric TEXT NOT NULL,
    value REAL,
    unit TEXT NOT NULL,
    low REAL,
    high REAL,
    n INTEGER,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (cell, metric)
) STRICT, WITHOUT ROWID;
"""
#: Axes that are whole numbers, where they apply.
_COUNTS = (
    "seq_len",
    "batch",
    "heads",
    "kv_heads",
    "q_len",
    "k_len",
    "head_dim",
    "value_dim",
    "features",
)
_RECORD = ("metric", "value", "unit", "low", "high", "n", "status", "reason")


class StoreError(BakeoffError):
    """The results file cannot be read or written; the message says what to do."""


class Store:
    """Writes cells with their records, each cell in one transaction.

    Args:
        path: The results file; made where there is none.

    Raises:
        StoreError: Where the file is no results file, is of another schema or can't be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        existed = self.path.exists() and self.path.stat().st_size > 0
        try:
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            if existed:
                _check(self._db, self.path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._make_tables()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(_explain(self.path, error)) from error

    def _make_tables(self) -> None:
        # Within one transaction, so that of two runs starting at once only one makes them.
        self._db.execute("BEGIN IMMEDIATE")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def keys(self) -> set[str]:
        """The keys of all cells that are stored."""
        return {key for (key,) in self._db.execute("SELECT key FROM cells")}

    def add(
        self, key: str, cell: Cell, records: Iterable[Record], environment: Mapping[str, Any]
    ) -> None:
        """Store one cell with all its records, or nothing; the same key replaces.

        Raises:
            StoreError: Where it can't be written; what was stored before is untouched.
        """
        axes = cell.axes()
        values = [key, time.time(), digest_of(environment), *axes.values()]
        columns = ", ".join(("key", "measured_at", "environment", *axes))
        rows = [[getattr(record, name) for name in _RECORD] for record in records]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR IGNORE INTO environments VALUES (?, ?)",
                (digest_of(environment), json.dumps(environment, sort_keys=True)),
            )
            self._db.execute(
                "DELETE FROM records WHERE cell IN (SELECT id FROM cells WHERE key = ?)", (key,)
            )
            self._db.execute("DELETE FROM cells WHERE key = ?", (key,))
            marks = ", ".join("?" * len(values))
            cursor = self._db.execute(f"INSERT INTO cells ({columns}) VALUES ({marks})", values)
            self._db.executemany(
                f"INSERT INTO records (cell, {', '.join(_RECORD)}) "
                f"VALUES (?, {', '.join('?' * len(_RECORD))})",
                [[cursor.lastrowid, *row] for row in rows],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(_explain(self.path, error)) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Results:
    """A results file, read only.

    Args:
        path: The results file.

    Raises:
        StoreError: Where there is none, or it can't be read.
    """

    def __init__(self, path: str | Path = DEFAULT_PATH) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise StoreError(
                f"{self.path}: there is no such results file; `bakeoff run` makes one, "
                "`--results` names another"
            )
        with closing(self._connect()) as db:
            _check(db, self.path)

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        except sqlite3.Error as error:
            raise StoreError(_explain(self.path, error)) from error

    def environments(self) -> dict[str, dict[str, Any]]:
        """The environments in which the cells were measured, by their digests."""
        with closing(self._connect()) as db:
            rows = db.execute("SELECT id, description FROM environments").fetchall()
        return {digest: json.loads(text) for digest, text in rows}

    def to_pandas(self, *, superseded: bool = False) -> pd.DataFrame:
        """One row a record: all axes of its cell, then metric, value, unit, interval, status.

        Args:
            superseded: Whether to keep the cells that were measured again later with the same
                axes in the same environment, because a source changed.
        """
        import pandas as pd

        # Two queries and a merge are twice as fast as one join through read_sql.
        with closing(self._connect()) as db:
            cells = db.execute(
                f"SELECT id, measured_at, environment, {', '.join(AXES)} FROM cells"
            ).fetchall()
            records = db.execute(f"SELECT cell, {', '.join(_RECORD)} FROM records").fetchall()
        left = pd.DataFrame(cells, columns=["cell", "measured_at", "environment", *AXES])
        if not superseded:
            same = ["environment", *AXES]
            left = left.sort_values("measured_at", kind="stable")
            left = left.drop_duplicates(same, keep="last").sort_values("cell")
        right = pd.DataFrame(records, columns=["cell", *_RECORD])
        for name in ("value", "low", "high"):
            right[name] = right[name].astype("float64")
        for name in (*_COUNTS, "n"):
            frame = right if name == "n" else left
            frame[name] = frame[name].astype("Int64")
        return left.merge(right, on="cell", how="inner").drop(columns="cell")

    def __len__(self) -> int:
        with closing(self._connect()) as db:
            return int(db.execute("SELECT count(*) FROM records").fetchone()[0])

    def __repr__(self) -> str:
        return f"<Results {self.path}: {len(self)} records>"


def open_results(path: str | Path = DEFAULT_PATH) -> Results:
    """Open a results file for reading.

    Raises:
        StoreError: Where there is none, or it can't be read.
    """
    return Results(path)


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Refuse, before anything is written, what is no results file of this schema."""
    try:
        ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        schema = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise StoreError(_explain(path, error)) from error
    if not ours:
        raise StoreError(
            f"{path}: this is no results file of bakeoff; it was not touched. Name another with "
            "--results"
        )
    if schema != SCHEMA_VERSION:
        newer = "a newer" if schema > SCHEMA_VERSION else "an older"
        raise StoreError(
            f"{path}: written by {newer} bakeoff (schema {schema}, this one reads "
            f"{SCHEMA_VERSION}); it was not touched. Use that version, or another --results"
        )


def _explain(path: Path, error: Exception) -> str:
    return (
        f"{path}: {error}; what was stored before is untouched. Check that it is a results file, "
        "that its folder can be written and that the disk is not full, or name another with "
        "--results"
    )
