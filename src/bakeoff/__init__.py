"""A registry of activation, attention and skip-connection variants, and suites that run over it.

Everything public is here; what needs torch or pandas is imported when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.registry.catalog import Catalog, Problem
from bakeoff.registry.errors import (
    BakeoffError,
    InvalidVariantError,
    UnknownNameError,
    UnsupportedError,
    UsageError,
)
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.metadata import Metadata, Paper
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import (
    Activation,
    Attention,
    Connection,
    Forward,
    Identity,
    Variant,
)

if TYPE_CHECKING:
    from bakeoff.registry.masking import allowed_keys, masked_softmax
    from bakeoff.registry.module import module
    from bakeoff.suites.flow.gains import initialisation
    from bakeoff.suites.merge import merge
    from bakeoff.suites.runner import explain, run
    from bakeoff.suites.store import Results, open_results

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Attention",
    "BakeoffError",
    "Case",
    "Catalog",
    "Connection",
    "FeatureShape",
    "Forward",
    "Identity",
    "InvalidVariantError",
    "Metadata",
    "Paper",
    "Problem",
    "Results",
    "Shape",
    "UnknownNameError",
    "UnsupportedError",
    "UsageError",
    "Variant",
    "allowed_keys",
    "explain",
    "hookimpl",
    "initialisation",
    "load",
    "masked_softmax",
    "merge",
    "module",
    "open_results",
    "run",
]

#: Public names that load torch or pandas, with the modules that define them.
_LATE = {
    "allowed_keys": "bakeoff.registry.masking",
    "masked_softmax": "bakeoff.registry.masking",
    "explain": "bakeoff.suites.runner",
    "initialisation": "bakeoff.suites.flow.gains",
    "merge": "bakeoff.suites.merge",
    "module": "bakeoff.registry.module",
    "open_results": "bakeoff.suites.store",
    "run": "bakeoff.suites.runner",
    "Results": "bakeoff.suites.store",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'bakeoff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def load(
    plugins: Iterable[str | Path] = (), *, entry_points: bool = True, pyproject: bool = True
) -> Catalog:
    """Load every plugin: the built-in ones, installed ones, configured ones and ``plugins``.

    Args:
        plugins: Paths of Python files that implement hooks.
        entry_points: Whether to look for installed plugins (entry-point group ``bakeoff``).
        pyproject: Whether to read ``[tool.bakeoff] plugins`` of the nearest pyproject.toml.

    Returns:
        An immutable :class:`Catalog`. A plugin that cannot be used costs only itself; see
        ``catalog.problems``.

    Example:
        >>> load()["silu"].metadata.title
        'SiLU'
    """
    from bakeoff.registry.discovery import discover

    return discover(plugins, entry_points=entry_points, pyproject=pyproject)
