"""The hooks that a plugin may implement."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("bakeoff")
#: Decorates a function of a plugin that implements one of the hooks below.
hookimpl = pluggy.HookimplMarker("bakeoff")


@hookspec
def bakeoff_variants() -> Iterable[object]:  # type: ignore[empty-body]
    """Yield the variants (Activation, Attention, Connection) that this plugin brings."""


@hookspec
def bakeoff_suites() -> Iterable[object]:  # type: ignore[empty-body]
    """Yield the suites that this plugin brings."""


@hookspec
def bakeoff_claims() -> Iterable[object]:  # type: ignore[empty-body]
    """Yield the textbook's statements that this plugin puts to the test."""


@hookspec
def bakeoff_reports() -> Iterable[object]:  # type: ignore[empty-body]
    """Yield the report formats that this plugin brings."""


@hookspec
def bakeoff_record(record: object) -> None:
    """See every record as it is stored: a tracker, a progress bar."""
