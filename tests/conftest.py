"""Fixtures that several files share."""

from __future__ import annotations

import os

import pytest

import bakeoff

# Tests run side by side, a process for each core: threads would only wait for each other. torch
# is not imported yet; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A pytest that a test starts is no worker of this one: pytest-benchmark would time nothing.
os.environ.pop("PYTEST_XDIST_WORKER", None)


@pytest.fixture(scope="session")
def catalog() -> bakeoff.Catalog:
    """What is built in."""
    return bakeoff.load(entry_points=False, pyproject=False)
