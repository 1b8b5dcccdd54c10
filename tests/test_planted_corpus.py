"""The planted corpus itself: every fault is there, and every odd variant is right."""

from __future__ import annotations

from collections import Counter

import pytest
from planted import PLANTED, Planted

from bakeoff import Catalog


def parameter_of(planted: Planted) -> object:
    """Slow where it compiles code for the processor."""
    marks = pytest.mark.slow if planted.name == "planted_compiled" else ()
    return pytest.param(planted, id=planted.name, marks=marks)


# torch warns of its own code where it compiles.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("planted", [parameter_of(planted) for planted in PLANTED])
def test_witness(planted: Planted, catalog: Catalog) -> None:
    catalog.with_variants(planted.variant)  # it keeps the contract, so that it can be checked
    assert planted.witness(planted.variant) == planted.faulty, planted.why


def test_names_are_unique() -> None:
    assert not [name for name, n in Counter(p.name for p in PLANTED).items() if n > 1]
