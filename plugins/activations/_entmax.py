"""The package entmax, which is optional."""

from __future__ import annotations

import importlib.util

from bakeoff import Case

__all__ = ["needs_entmax"]


def needs_entmax(case: Case) -> str | None:
    """None where the package is installed, else how to install it."""
    if importlib.util.find_spec("entmax") is None:
        return "package entmax is not installed: pip install 'bakeoff[entmax]'"
    return None
