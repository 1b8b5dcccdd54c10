"""Fixtures that several files share."""

from __future__ import annotations

import pytest

import bakeoff


@pytest.fixture(scope="session")
def catalog() -> bakeoff.Catalog:
    """What is built in."""
    return bakeoff.load(entry_points=False, pyproject=False)
