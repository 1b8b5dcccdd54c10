"""The planted corpus itself: every fault is there, and every odd variant is right."""

from __future__ import annotations

from collections import Counter

import pytest
from planted import PLANTED, Planted

import bakeoff
from bakeoff import Catalog


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_witness(planted: Planted, catalog: Catalog) -> None:
    catalog.with_variants(planted.variant)  # it keeps the contract, so that it can be checked
    assert planted.witness(planted.variant) == planted.faulty, planted.why


def test_names_are_unique() -> None:
    assert not [name for name, n in Counter(p.name for p in PLANTED).items() if n > 1]
