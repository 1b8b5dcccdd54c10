"""The tidy frame for other programs: one row a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.registry.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["csv", "json", "parquet"]


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
