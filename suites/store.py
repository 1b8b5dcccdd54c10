"""The results file: SQLite, one row a cell, one row a record, committed cell by cell."""

from __future__ import annotations

import html
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import BakeoffError
from bakeoff.suites.environment import digest_of
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import AXES, Cell, Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CELL",
    "DEFAULT_PATH",
    "INSERT_RECORD",
    "RECORD",
    "SCHEMA_VERSION",
    "Results",
    "Store",
    "StoreError",
    "explained",
    "open_results",
]

SCHEMA_VERSION = 3
#: An older schema that is read as it is, and brought up to date before it is written to: it held
#: no column ``control``, when these were the controls.
READABLE_SCHEMA = 2
_CONTROL_THEN = "variant LIKE '(%' OR variant IN ('identity', 'plain')"
#: Marks the file as ours ("bkof"), so that another program's database is never written to.
APPLICATION_ID = 0x626B6F66
DEFAULT_PATH = Path("bakeoff-results.sqlite")

_SCHEMA = f"""
CREATE TABLE environments (id TEXT PRIMARY KEY, description TEXT NOT NULL) STRICT;
CREATE TABLE cells (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    sources TEXT NOT NULL,
    inputs_digest TEXT NOT NULL,
    measured_at REAL NOT NULL,
    environment TEXT NOT NULL REFERENCES environments (id),
    control INTEGER NOT NULL,
    {", ".join(f"{axis} ANY" for axis in AXES)},
    UNIQUE (key, measured_at)
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
RECORD = ("metric", "value", "unit", "low", "high", "n", "status", "reason")
#: The columns of a cell, but for the number that its records refer to.
CELL = ("key", "sources", "inputs_digest", "measured_at", "environment", "control", *AXES)
INSERT_RECORD = (
    f"INSERT INTO records (cell, {', '.join(RECORD)}) VALUES ({', '.join('?' * (len(RECORD) + 1))})"
)


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
        try:
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            if not _is_empty(self._db):
                _check(self._db, self.path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._make_tables()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(explained(self.path, error)) from error

    def _make_tables(self) -> None:
        # Within one transaction, so that of two runs starting at once only one makes them.
        self._db.execute("BEGIN IMMEDIATE")
        schema = _schema_of(self._db)
        if schema == READABLE_SCHEMA:
            self._db.execute("ALTER TABLE cells ADD COLUMN control INTEGER NOT NULL DEFAULT 0")
            self._db.execute(f"UPDATE cells SET control = {_CONTROL_THEN}")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif schema == 0:
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def keys(self) -> set[str]:
        """The keys of all cells that are stored."""
        return {key for (key,) in self._db.execute("SELECT key FROM cells")}

    def add(
        self, identity: Identified, cell: Cell, records: Iterable[Record], at: float | None = None
    ) -> None:
        """Store one cell with all its records, or nothing.

        What was stored of it before stays: the latest is what reports show.

        Args:
            identity: What tells the cell from others.
            cell: The cell.
            records: Its records.
            at: When it was measured, in seconds since 1970; now if None.

        Raises:
            StoreError: Where it can't be written; what was stored before is untouched.
        """
        machine = json.dumps(identity.environment, sort_keys=True)
        own = (identity.key, identity.sources, identity.inputs, time.time() if at is None else at)
        digest = digest_of(identity.environment)
        values = (*own, digest, identity.control, *cell.axes().values())
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO environments VALUES (?, ?)",
                (digest, machine),
            )
            marks = ", ".join("?" * len(values))
            row = db.execute(f"INSERT INTO cells ({', '.join(CELL)}) VALUES ({marks})", values)
            db.executemany(
                INSERT_RECORD,
                [
                    (row.lastrowid, *(getattr(record, name) for name in RECORD))
                    for record in records
                ],
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is written within, or nothing.

        Raises:
            StoreError: Where it can't be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(explained(self.path, error)) from error
            raise

    def latest(self, where: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The records of the cells with these columns, the latest measured first."""
        conditions = " AND ".join(f"{name} IS ?" for name in where)
        rows = self._db.execute(
            f"SELECT {', '.join(AXES)}, {', '.join(RECORD)} FROM cells "
            f"JOIN records ON records.cell = cells.id WHERE {conditions} "
            "ORDER BY measured_at DESC",
            tuple(where.values()),
        )
        for row in rows:
            yield dict(zip((*AXES, *RECORD), row, strict=True))

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
        with self.reading() as db:
            if _is_empty(db):
                raise StoreError(
                    f"{self.path}: nothing is stored in it yet; `bakeoff run` measures, "
                    "`--results` names another"
                )
            _check(db, self.path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that can't write, and that runs nothing that the file brings along.

        Raises:
            StoreError: Where the file can't be read.
        """
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=60)) as db:
                db.execute("PRAGMA trusted_schema=OFF")
                if _schema_of(db) == READABLE_SCHEMA:
                    # A temporary name comes before the table's, and leaves the file as it is.
                    columns = f"*, {_CONTROL_THEN} AS control"
                    db.execute(f"CREATE TEMP VIEW cells AS SELECT {columns} FROM main.cells")
                yield db
        except sqlite3.Error as error:
            raise StoreError(explained(self.path, error)) from error

    def environments(self) -> dict[str, dict[str, Any]]:
        """The environments in which the cells were measured, by their digests."""
        with self.reading() as db:
            rows = db.execute("SELECT id, description FROM environments").fetchall()
        return {digest: json.loads(text) for digest, text in rows}

    def sources(self) -> dict[str, str]:
        """For each variant a digest of the files that define it, as it was measured last."""
        with self.reading() as db:
            # Of the columns beside max() SQLite takes those of the row that has it.
            rows = db.execute(
                "SELECT variant, sources, max(measured_at) FROM cells GROUP BY variant"
            ).fetchall()
        return {str(variant): str(digest) for variant, digest, _ in rows}

    def to_pandas(self, *, superseded: bool = False) -> pd.DataFrame:
        """One row a record: all axes of its cell, then metric, value, unit, interval, status.

        Args:
            superseded: Whether to keep the cells that were measured again later with the same
                axes in the same environment, because a source changed.
        """
        import pandas as pd

        # Two queries and a merge are twice as fast as one join through read_sql.
        with self.reading() as db:
            cells = db.execute(
                f"SELECT id, measured_at, environment, control, {', '.join(AXES)} FROM cells"
            ).fetchall()
            records = db.execute(f"SELECT cell, {', '.join(RECORD)} FROM records").fetchall()
        left = pd.DataFrame(cells, columns=["cell", "measured_at", "environment", "control", *AXES])
        left["control"] = left["control"].astype(bool)
        if not superseded:
            same = ["environment", *AXES]
            left = left.sort_values("measured_at", kind="stable")
            left = left.drop_duplicates(same, keep="last").sort_values("cell")
        right = pd.DataFrame(records, columns=["cell", *RECORD])
        for name in ("value", "low", "high"):
            right[name] = right[name].astype("float64")
        for name in (*_COUNTS, "n"):
            frame = right if name == "n" else left
            frame[name] = frame[name].astype("Int64")
        return left.merge(right, on="cell", how="inner").drop(columns="cell")

    def __len__(self) -> int:
        with self.reading() as db:
            return int(db.execute("SELECT count(*) FROM records").fetchone()[0])

    def __repr__(self) -> str:
        return f"<Results {self.path}: {len(self)} records>"

    def _repr_html_(self) -> str:
        """How a notebook shows it: how many records of which suite have which status."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT suite, status, count(*) FROM cells JOIN records ON records.cell = cells.id "
                "GROUP BY suite, status"
            ).fetchall()
        counts: dict[str, dict[str, int]] = {}
        for suite, status, count in rows:
            counts.setdefault(suite, {})[status] = count
        statuses = sorted({status for _, status, _ in rows})
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("suite", *statuses))
        body = "".join(
            f"<tr><th>{html.escape(str(suite))}</th>"
            + "".join(f"<td>{own.get(status, 0)}</td>" for status in statuses)
            + "</tr>"
            for suite, own in counts.items()
        )
        return (
            f"<p>{html.escape(repr(self))}; see <code>bakeoff.report(results)</code></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def open_results(path: str | Path = DEFAULT_PATH) -> Results:
    """Open a results file for reading.

    Raises:
        StoreError: Where there is none, or it can't be read.
    """
    return Results(path)


def _schema_of(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing was written yet: a new file, or one whose making was cut short.

    Another program's database may be of any schema; only one without a table can be ours to be.
    """
    try:
        tables, marks = (
            db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("sqlite_schema", "pragma_application_id WHERE application_id")
        )
    except sqlite3.DatabaseError:
        return False  # no database: the check says so
    return not (tables or marks)


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Refuse, before anything is written, what is no results file of this schema."""
    try:
        ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        schema = _schema_of(db)
        found = db.execute("SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    except sqlite3.DatabaseError as error:
        raise StoreError(explained(path, error)) from error
    if not ours:
        raise StoreError(
            f"{path}: this is no results file of bakeoff; it was not touched. Name another with "
            "--results"
        )
    if schema not in (READABLE_SCHEMA, SCHEMA_VERSION):
        newer = "a newer" if schema > SCHEMA_VERSION else "an older"
        raise StoreError(
            f"{path}: written by {newer} bakeoff (schema {schema}, this one reads "
            f"{SCHEMA_VERSION}); it was not touched. Use that version, or another --results"
        )
    # A trigger or a view of a stranger's would run when the file is written or read.
    foreign = [f"the {kind} {name!r}" for kind, name in found if (kind, name) not in _TABLES]
    if foreign:
        raise StoreError(
            f"{path}: it holds {', '.join(foreign)}, which bakeoff never makes; it was not "
            "touched. Have whoever made it export it anew, or name another with --results"
        )


_TABLES = {("table", name) for name in ("environments", "cells", "records")}


def explained(path: Path, error: Exception) -> str:
    """What went wrong with the file, and what to do."""
    return (
        f"{path}: {error}; what was stored before is untouched. Check that it is a results file, "
        "that its folder can be written and that the disk is not full, or name another with "
        "--results"
    )
