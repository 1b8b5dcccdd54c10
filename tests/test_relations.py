"""Declared relations of attention, measured on variants with them and without."""

from __future__ import annotations

import pytest

import bakeoff
from bakeoff.suites.properties import measured
from bakeoff.suites.records import Status
from bakeoff.suites.relations import mixes_queries, relative
from bakeoff.suites.verdicts import Subject

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
DECLARING = [
    (variant.name, name)
    for variant in CATALOG.values()
    for name in ("mixes_queries", "relative")
    if name in variant.metadata.properties
]


@pytest.mark.parametrize(("variant", "name"), DECLARING)
def test_what_is_declared_is_measured(variant: str, name: str) -> None:
    found = measured(Subject(CATALOG[variant], "reference", "float64"), name)
    assert found.status == Status.OK, found.reason


@pytest.mark.parametrize("name", ["sink_window", "strided_sparse", "longformer", "cosformer"])
def test_places_that_count_are_not_relative(name: str) -> None:
    """A sink, a stride, a global token or the length itself: windows are made to show."""
    assert not relative(Subject(CATALOG[name], "reference", "float64"))


def test_queries_stay_apart_in_a_softmax() -> None:
    assert not mixes_queries(Subject(CATALOG["scaled_dot_product"], "reference", "float64"))
