"""Variants with a known verdict: faults that a certificate must find, and odd ones that are right.

Each module plants related ones with the decorators of :mod:`planted.corpus`; importing this
package gathers them all.
"""

from __future__ import annotations

import importlib
import pkgutil

from planted.corpus import PLANTED, Planted

__all__ = ["PLANTED", "Planted"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"planted.{_module.name}")
