"""A gradient that is declared not to be the derivative is held to that, and still compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bakeoff import Attention, Catalog, Metadata
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of


def declaring(variant: Attention, differentiable: bool) -> Attention:
    properties = {**variant.metadata.properties, "differentiable": differentiable}
    metadata: Metadata = replace(variant.metadata, properties=properties)
    return replace(variant, name="planted", metadata=metadata)


def records_of(catalog: Catalog, variant: Attention) -> list[Record]:
    catalog = catalog.with_variants(variant)
    given: dict[str, Any] = {"variants": ("planted",), "seq_lens": (16,), "dtypes": ("float32",)}
    selection = selection_for("quick", "gradient", given)
    suite = suites_of(catalog, ["gradient"])["gradient"]
    jobs = suite.plan(catalog, selection)
    return [record for job in jobs for record in suite.measure(replace(job, catalog=catalog))]


@pytest.mark.parametrize(
    ("name", "declared", "status"),
    [
        ("hard", False, Status.OK),
        ("hard", True, Status.WRONG),
        ("scaled_dot_product", True, Status.OK),
        ("scaled_dot_product", False, Status.WRONG),
    ],
)
def test_the_declaration_is_measured(
    catalog: Catalog, name: str, declared: bool, status: Status
) -> None:
    variant = declaring(catalog[name], declared)
    records = records_of(catalog, variant)
    checked = {r.cell.forward: r.status for r in records if r.metric == "gradcheck"}
    assert "reference" in checked
    assert set(checked.values()) == {status}


def test_an_estimate_is_compared_with_that_of_the_reference(catalog: Catalog) -> None:
    records = records_of(catalog, declaring(catalog["hard"], False))
    ratios = [r.value for r in records if r.metric == "grad_error_ratio"]
    assert ratios
    assert all(value is not None for value in ratios)
