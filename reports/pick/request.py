"""What a user asks for: a case, and limits that what is taken must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bakeoff.registry.metadata import Metadata

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """A case and its limits.

    Args:
        kind: ``activation``, ``attention`` or ``connection``.
        seq_len: The length N.
        axes: The axes that are asked for: pattern, direction, dtype, device, mode, and any size.
            What is not asked for must have one value in the results.
        variants: Those of the kind and the tags, with what is said of them; a control among them is
            never taken.
        max_memory: The most bytes that a call may hold at once.
        max_approximation_error: The most that a variant may be away from what it approximates;
            one that approximates nothing keeps it.
        min_accuracy: By task of the learning suite the least accuracy on test data.
    """

    kind: str
    seq_len: int
    axes: Mapping[str, Any]
    variants: Mapping[str, Metadata]
    max_memory: float | None = None
    max_approximation_error: float | None = None
    min_accuracy: Mapping[str, float] = field(default_factory=dict)

    @property
    def training(self) -> bool:
        """Whether gradients are wanted, so that they must have been found right."""
        return bool(self.axes.get("direction") != "forward")
