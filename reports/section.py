"""A part of a report that belongs to one suite, with blocks of its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from bakeoff.reports import sections
from bakeoff.reports.blocks import Block
from bakeoff.reports.rows import Row

__all__ = ["Section", "all_sections"]


@dataclass(frozen=True)
class Section:
    """What a module of ``reports/sections/`` defines as ``SECTION``.

    Args:
        title: Its heading.
        order: Sections stand in this order, after the kinds of variant.
        takes: Whether a record is shown here; it is then in none of the general tables.
        blocks: ``(rows, wrong) -> blocks``: the rows that it takes, of one environment, and the
            labels that are not ranked, with what is wrong.
    """

    title: str
    order: int
    takes: Callable[[Row], bool]
    blocks: Callable[[Sequence[Row], Mapping[str, str]], Iterable[Block]]


@cache
def all_sections() -> tuple[Section, ...]:
    """Every section, in order."""
    names = [info.name for info in pkgutil.iter_modules(sections.__path__)]
    found = [importlib.import_module(f"{sections.__name__}.{name}").SECTION for name in names]
    return tuple(sorted(found, key=lambda section: section.order))
