"""Every registered variant keeps the contract: its suites find nothing wrong with it.

Parametrised from the registry: a new variant is tested the moment it is registered. Forwards are
compared with the reference in outputs and in all gradients, over every pattern.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from peers_faults import FAULTS_OF_PEERS

import bakeoff
from bakeoff.registry.shapes import PATTERNS
from bakeoff.registry.variants import Variant
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of
from bakeoff.suites.tensors import why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
over_variants = pytest.mark.parametrize("variant", CATALOG.values(), ids=list(CATALOG))


def records_of(variant: Variant, name: str, preset: str, **given: Any) -> list[Record]:
    """What a suite says of a variant, in this process."""
    suite = suites_of(CATALOG, [name])[name]
    selection = selection_for(preset, name, {"variants": (variant.name,), **given})
    jobs = suite.plan(CATALOG, selection)
    return [record for job in jobs for record in suite.measure(replace(job, catalog=CATALOG))]


def require_right(variant: Variant, records: list[Record]) -> None:
    """Nothing is wrong or fails, a lone reference is unverified; what is unsupported says why."""
    bad = [
        f"{r.cell.label} {r.cell.case.dtype} {r.metric} {r.status}: {r.reason}"
        for r in records
        if r.status not in (Status.OK, Status.UNSUPPORTED)
        and not (r.status == Status.UNVERIFIED and set(variant.forwards) == {"reference"})
        and (variant.name, r.metric) not in FAULTS_OF_PEERS
    ]
    assert not bad, "\n".join(bad)
    assert all(r.reason for r in records if r.status == Status.UNSUPPORTED)
    measured = {r.cell.forward for r in records if r.status == Status.OK}
    # A forward may refuse a machine without a GPU; all that it takes here is measured.
    taken = {r.cell.forward for r in records if not why_not(variant, r.cell.forward, r.cell.case)}
    assert measured == taken >= {"reference"}


@over_variants
def test_accuracy(variant: Variant) -> None:
    records = records_of(variant, "accuracy", "quick", patterns=tuple(PATTERNS))
    require_right(variant, records)
    metrics = {r.metric for r in records}
    assert {f"property_{name}" for name in variant.metadata.properties} - metrics <= {
        "property_patterns",
        "property_differentiable",
    }
    assert not variant.identities or "identity" in metrics


@over_variants
def test_gradients(variant: Variant) -> None:
    records = records_of(variant, "gradient", "quick", dtypes=("float32", "bfloat16"))
    require_right(variant, records)
    assert {r.cell.forward for r in records if r.metric == "gradcheck"} <= set(variant.forwards)
    assert any(r.metric == "gradcheck" and r.status == Status.OK for r in records)


@pytest.mark.slow
@over_variants
@pytest.mark.parametrize("suite", ["accuracy", "gradient"])
def test_more_dtypes_and_inputs(variant: Variant, suite: str) -> None:
    if "peer" in variant.metadata.tags:
        pytest.skip("in half precision another library's kernel overflows where it overflows")
    narrow = {"seq_lens": (131,), "inputs": ("normal", "peaked"), "seeds": (1,)}
    # Stacks of layers have tests of their own.
    records = records_of(variant, suite, "full", depths=(), **narrow)
    require_right(variant, records)


@over_variants
def test_memory(variant: Variant) -> None:
    records = records_of(variant, "memory", "quick", seq_lens=(64,))
    require_right(variant, records)
    saved = {r.cell.forward: r.value for r in records if r.metric == "saved_bytes"}
    assert "reference" in saved  # others may not run on this machine
    measured = [r.value for r in records if r.status == Status.OK]
    assert all(value is not None and value >= 0 for value in measured)
