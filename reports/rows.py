"""The records as rows for people: cleaned, labelled and chosen; and which axes may differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import UnknownNameError, UsageError, did_you_mean
from bakeoff.suites.records import AXES, Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COMPARED",
    "FIXED",
    "JUDGING",
    "MARK",
    "Row",
    "chosen",
    "plain",
    "required",
    "rows_of",
]

#: Follows the name of a control wherever one is shown.
MARK = " (control)"
#: The suites that tell right from wrong.
JUDGING = ("accuracy", "gradient")
#: The axes along which the rows and the columns of one table differ. All others are held fixed
#: within a table: numbers that differ in one of those are never put side by side.
COMPARED = ("variant", "forward", "options", "seq_len", "q_len", "k_len")
FIXED = tuple(axis for axis in AXES if axis not in COMPARED)


@dataclass(frozen=True, slots=True)
class Row:
    """One record, for people.

    Args:
        axes: The axes of its cell, None where one does not apply.
        cell: A number that rows of one cell share.
        label: ``variant:forward``.
        rival: The label, with those options that tell cells of one variant apart, and with the mark
            of a control.
        control: Whether it is shown and never ranked.
    """

    axes: Mapping[str, Any]
    cell: int
    label: str
    rival: str
    metric: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    n: int | None
    status: str
    reason: str
    environment: str
    measured_at: float
    control: bool = False

    @property
    def severity(self) -> int:
        """The place of its status in the order of severity."""
        return Status.of(self.status).severity

    @property
    def failed(self) -> bool:
        """Whether it should have worked and did not."""
        return Status.of(self.status).is_failure


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a results file, in its order."""
    names = ["environment", *AXES]
    cells = frame.groupby(names, dropna=False, sort=False).ngroup()
    frame = frame.astype(object).where(frame.notna(), None)
    axes_of: dict[int, dict[str, Any]] = {}
    for cell, *values in zip(cells, *(frame[axis] for axis in AXES), strict=True):
        if cell not in axes_of:
            axes_of[cell] = {a: _axis(v) for a, v in zip(AXES, values, strict=True)}
    rivals = _rivals(axes_of.values())
    own = ("metric", "value", "unit", "low", "high", "n", "status", "reason", "environment",
           "measured_at")  # fmt: skip
    controls = _controls(frame)
    rows = []
    for cell, *values in zip(cells, *(frame[name] for name in own), strict=True):
        axes = axes_of[cell]
        label = f"{axes['variant']}:{axes['forward']}"
        rival = label + rivals[axes["suite"], axes["variant"], axes["options"]]
        if control := axes["variant"] in controls:
            rival += MARK
        rows.append(Row(axes, cell, label, rival, *(*map(_plain, values), control)))
    return rows


def _controls(frame: pd.DataFrame) -> set[str]:
    """The variants that were controls when they were measured last."""
    latest = frame.sort_values("measured_at", kind="stable").drop_duplicates("variant", keep="last")
    return {_plain(name) for name in latest["variant"][latest["control"].astype(bool)]}


def chosen(
    rows: Sequence[Row],
    *,
    kinds: Iterable[str] = (),
    suites: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> list[Row]:
    """The rows of these kinds, suites and variants; an empty selection takes all.

    Raises:
        UnknownNameError: For a name that the results do not hold.
        UsageError: Where nothing is left.
    """
    names = required(lambda axis: {row.axes[axis] for row in rows}, kinds, suites, variants)
    left = [row for row in rows if all(row.axes[axis] in n for axis, n in names.items())]
    if not left:
        raise UsageError(
            "the results hold nothing for this selection: take fewer filters, or measure it with "
            "`bakeoff run`"
        )
    return left


def required(
    known: Callable[[str], set[str]],
    kinds: Iterable[str] = (),
    suites: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> dict[str, tuple[str, ...]]:
    """The names that a filter wants, by axis; an axis without any is left out.

    Raises:
        UnknownNameError: For a name that is not among the ``known`` ones of its axis.
    """
    filters = {"kind": tuple(kinds), "suite": tuple(suites), "variant": tuple(variants)}
    filters = {axis: names for axis, names in filters.items() if names}
    for axis, names in filters.items():
        for name in names:
            if name not in known(axis):
                raise UnknownNameError(
                    f"the results hold no {axis} called {name!r}; {did_you_mean(name, known(axis))}"
                )
    return filters


def plain(text: str) -> dict[str, Any]:
    """Options and extras, which are JSON; what a hand wrote there is shown as it stands."""
    return dict(_parsed(text))


@lru_cache(maxsize=2**16)
def _parsed(text: str) -> dict[str, Any]:
    """The same few texts stand in very many rows."""
    try:
        loaded = json.loads(text)
    except ValueError:
        return {"": text}
    return loaded if isinstance(loaded, dict) else {"": text}


@lru_cache(maxsize=2**16)
def _axis(value: Any) -> Any:
    """An axis: every number among them is whole, though a column with gaps holds floats."""
    value = _plain(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: Any) -> Any:
    """Numbers of Python, and printable texts."""
    return _printable(value) if isinstance(value, str) else getattr(value, "item", lambda: value)()


def _printable(text: str) -> str:
    """Control characters could move a terminal's cursor or hide what follows."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _rivals(cells: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], str]:
    """`` window=64`` for the options of which one suite measured several values, else nothing."""
    seen: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for axes in cells:
        options = axes["options"]
        seen.setdefault((axes["suite"], axes["variant"]), {})[options] = plain(options)
    return {
        (*key, text): "".join(
            f" {name}={value}"
            for name, value in options.items()
            if any(other.get(name) != value for other in several.values())
        )
        for key, several in seen.items()
        for text, options in several.items()
    }
