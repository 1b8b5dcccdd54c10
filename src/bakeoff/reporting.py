"""A report for a notebook: its tables as frames, its figures as pictures, its text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.reports.blocks import Block
from bakeoff.reports.contents import Contents, contents_of
from bakeoff.reports.document import document
from bakeoff.reports.drawings import Drawing, drawings
from bakeoff.reports.latex import latex
from bakeoff.reports.page import page
from bakeoff.reports.tables import Entry
from bakeoff.reports.text import markdown, terminal
from bakeoff.reports.words import describe
from bakeoff.suites.store import DEFAULT_PATH, Results

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "report"]


class Report:
    """What :func:`report` returns; a notebook shows it as Markdown.

    Args:
        contents: What it says.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table of numbers, tidy: a row for each rival and length, by what it shows."""
        import pandas as pd

        found: dict[str, pd.DataFrame] = {}
        for place in self.contents.places:
            for kind in place.kinds:
                for table in (*kind.speed, *kind.memory, *kind.errors, *kind.others):
                    rows = [
                        {"rival": rival, "N": length, **_entry(entry)}
                        for (rival, length), entry in table.entries.items()
                    ]
                    where = place.digest if len(self.contents.places) > 1 else ""
                    told = (kind.name, table.metric, describe(table.fixed), where)
                    found[", ".join(filter(None, told))] = pd.DataFrame(rows)
        return found

    def figures(self) -> list[Drawing]:
        """Every figure: a notebook draws it, ``svg()`` and ``png()`` are for a paper."""
        return list(drawings(self._blocks))

    def markdown(self) -> str:
        """For a pull request."""
        return markdown(self._blocks)

    def latex(self) -> str:
        """The tables, for a paper."""
        return latex(self._blocks)

    def html(self) -> str:
        """The page."""
        return page(document(self.contents, wide=False))

    def __str__(self) -> str:
        return terminal(document(self.contents, wide=False))

    def __repr__(self) -> str:
        return f"<Report on {self.contents.source}: {self.contents.records} records>"

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return markdown(document(self.contents, wide=False))

    @cached_property
    def _blocks(self) -> list[Block]:
        return list(document(self.contents, wide=True))


def report(
    results: Results | str | Path = DEFAULT_PATH,
    *,
    kinds: str | Iterable[str] = (),
    suites: str | Iterable[str] = (),
    variants: str | Iterable[str] = (),
) -> Report:
    """What the results say, for a notebook.

    Args:
        results: The results, or the path of their file.
        kinds: Only these kinds; none for all. Likewise ``suites`` and ``variants``.

    Raises:
        UnknownNameError: For a name that the results do not hold.
        UsageError: Where nothing is left.
        StoreError: Where the results can't be read.

    Example:
        >>> import bakeoff, tempfile
        >>> file = tempfile.mkdtemp() + "/results.sqlite"
        >>> results = bakeoff.run("memory", variants="relu", seq_lens=64, results=file)
        >>> frame = next(iter(bakeoff.report(results).tables().values()))
        >>> list(frame.columns[:3]), len(frame)
        (['rival', 'N', 'value'], 2)
    """
    opened = results if isinstance(results, Results) else Results(results)
    filters = {"kinds": kinds, "suites": suites, "variants": variants}
    return Report(contents_of(opened, **{name: _names(given) for name, given in filters.items()}))


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    """One name counts as a tuple of one."""
    return (given,) if isinstance(given, str) else tuple(given)


def _entry(entry: Entry) -> dict[str, object]:
    names = ("value", "low", "high", "n", "status", "difference", "reason")
    return {name: getattr(entry, name) for name in names}
