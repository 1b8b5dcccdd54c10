"""What a run tells while it goes, and when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bakeoff.suites.records import Cell, Record, Status

__all__ = ["Progress", "Silent", "Summary"]


class Progress(Protocol):
    """Sees a run as it goes."""

    def begin(self, planned: int, stored: int) -> None:
        """So many cells are planned, and so many of them are stored already."""

    def running(self, cell: Cell) -> None:
        """This cell is being measured."""

    def finished(self, cell: Cell, records: Sequence[Record]) -> None:
        """This cell is stored."""

    def ended(self, summary: Summary) -> None:
        """The run came to its end."""


class Silent:
    """Shows nothing."""

    def begin(self, planned: int, stored: int) -> None:
        """Nothing."""

    def running(self, cell: Cell) -> None:
        """Nothing."""

    def finished(self, cell: Cell, records: Sequence[Record]) -> None:
        """Nothing."""

    def ended(self, summary: Summary) -> None:
        """Nothing."""


@dataclass
class Summary:
    """What a run did.

    Args:
        planned: Cells of the selection.
        stored: Cells that were measured before.
        statuses: Records by status, of the cells measured now.
        seconds: How long it took.
        available: The same, and what several workers had side by side.
        measuring: How much of that a suite was measuring; the rest went into planning, starting
            processes, loading plugins and storing.
    """

    planned: int = 0
    stored: int = 0
    statuses: dict[Status, int] = field(default_factory=dict)
    seconds: float = 0.0
    available: float = 0.0
    measuring: float = 0.0
