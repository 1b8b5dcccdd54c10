"""The counterfeits of the claims that need training, as those of ``counterfeits.py``."""

from __future__ import annotations

from collections.abc import Mapping

from bakeoff import Activation, Attention, Connection

__all__ = ["COUNTERFEITS", "SLOW"]

COUNTERFEITS: Mapping[str, Mapping[str, Activation | Attention | Connection | str]] = {}
#: Claims that take more than some seconds.
SLOW: frozenset[str] = frozenset()
