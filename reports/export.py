"""The tidy frame for other programs: one row a record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.registry.errors import UsageError
from bakeoff.reports.rows import required

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["chosen", "csv", "json", "parquet"]


def chosen(
    frame: pd.DataFrame,
    *,
    kinds: Iterable[str] = (),
    suites: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> pd.DataFrame:
    """The records of these kinds, suites and variants; an empty selection takes all.

    Raises:
        UnknownNameError: For a name that the results do not hold.
    """
    filters = required(lambda axis: set(frame[axis]), kinds, suites, variants)
    kept = frame
    for axis, names in filters.items():
        kept = kept[kept[axis].isin(names)]
    return kept


def csv(frame: pd.DataFrame) -> str:
    """Comma-separated values, with a header; what is missing is empty."""
    return str(frame.to_csv(index=False))


def json(frame: pd.DataFrame) -> str:
    """A list of objects; what is missing is null."""
    return str(frame.to_json(orient="records", double_precision=15, indent=1)) + "\n"


def parquet(frame: pd.DataFrame, path: Path) -> None:
    """An Apache Parquet file.

    Raises:
        UsageError: Where pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "format parquet needs pyarrow, which is not installed: pip install 'bakeoff[parquet]'"
        ) from error
    frame.to_parquet(path, engine="pyarrow", index=False)
