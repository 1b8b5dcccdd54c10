"""What the suites say of their metrics is complete: every record bears a name that is declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import bakeoff
from bakeoff.comparing import metrics_of
from bakeoff.suites.records import CELL_METRIC, Record
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import Suite, suites_of

#: Between them they have options, parameters, a recurrence, an approximation and every property.
VARIANTS = ("relu", "sigmoid", "performer", "retention", "scaled_dot_product", "residual")
SMALL: dict[str, Any] = {
    "variants": VARIANTS,
    "seq_lens": (8, 16),
    "heads": (2,),
    "head_dims": (8,),
    "features": (8,),
    "dtypes": ("float32",),
    "grids": ("none",),
    "patterns": ("causal_self",),
    "budget": 0.01,
}


def records_of(catalog: bakeoff.Catalog, suite: Suite) -> Iterator[Record]:
    selection = selection_for("quick", suite.name, SMALL)
    for job in suite.plan(catalog, selection):
        yield from suite.measure(replace(job, catalog=catalog))


@pytest.mark.parametrize("name", ["accuracy", "gradient", "memory", "scaling", "speed"])
def test_every_record_bears_a_declared_metric(catalog: bakeoff.Catalog, name: str) -> None:
    suite = suites_of(catalog, [name])[name]
    records = list(records_of(catalog, suite))
    found = {record.metric for record in records} - {CELL_METRIC}
    assert len(found) >= 2
    assert found <= suite.metrics.keys()
    units = {record.metric: record.unit for record in records if record.value is not None}
    wrong = {
        metric: unit
        for metric, unit in units.items()
        if suite.metrics.get(metric) and suite.metrics[metric].unit != unit
    }
    assert not wrong


def test_every_suite_declares_its_metrics(catalog: bakeoff.Catalog) -> None:
    declared = metrics_of(catalog)
    for name in suites_of(catalog):
        assert any(suite == name for suite, _ in declared), name
    for (suite, name), metric in declared.items():
        assert metric.meaning.endswith("."), (suite, name)


def test_a_metric_that_is_not_declared_would_be_seen(catalog: bakeoff.Catalog) -> None:
    """The control: the same check on a suite that forgot one."""
    suite = suites_of(catalog, ["memory"])["memory"]
    fewer = {name: metric for name, metric in suite.metrics.items() if name != "saved_bytes"}
    found = {record.metric for record in records_of(catalog, suite)} - {CELL_METRIC}
    assert not found <= fewer.keys()
