"""The cells of gradient flow: what is planned, that each variant gives rows, and how they read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import bakeoff
from bakeoff import Activation, Catalog, Metadata
from bakeoff.cli import cli
from bakeoff.registry.errors import UnknownNameError, UsageError
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import document
from bakeoff.reports.text import terminal
from bakeoff.suites.flow.samples import BY_LAYER
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import Selection, selection_for
from bakeoff.suites.spec import suites_of

LOADED = bakeoff.load(entry_points=False, pyproject=False)


def records_of(catalog: Catalog, name: str, **given: Any) -> list[Record]:
    """What the suite's plan and measure give for one variant, its other checks left out."""
    axes = {"variants": (name,), "depths": (3,), "draws": 2, "features": (16,), **given}
    selection = selection_for("quick", "gradient", axes)
    suite = suites_of(catalog, ["gradient"])["gradient"]
    jobs = [job for job in suite.plan(catalog, selection) if "draws" in job.cells[-1].extra]
    return [record for job in jobs for record in suite.measure(replace(job, catalog=catalog))]


@pytest.mark.parametrize("name", [v.name for v in Selection().chosen(LOADED)])
def test_every_variant_is_measured(catalog: Catalog, name: str) -> None:
    records = records_of(catalog, name, heads=(2,), head_dims=(8,))
    failed = [record for record in records if record.status not in ("ok", "unsupported")]
    assert not failed, failed[0].reason
    flows = [record for record in records if record.metric == "grad_norm_ratio"]
    assert flows
    for record in flows:
        assert record.value is not None
        assert math.isfinite(record.value)
        assert record.low is not None
        assert record.n == 2
    assert len({(r.cell, r.metric) for r in records}) == len(records)


def test_what_a_stack_of_activations_gives(catalog: Catalog) -> None:
    records = records_of(catalog, "relu", depths=(4,), draws=6)
    by_metric = {r.metric: r for r in records if r.cell.extra["check"] == "flow"}
    chi, theory = by_metric["chi"], by_metric["chi_theory"]
    assert theory.value == pytest.approx(1)
    assert chi.value is not None
    assert chi.value == pytest.approx(1, abs=0.4)  # 16 units wide
    assert by_metric["saturated_fraction"].value == pytest.approx(0.5, abs=0.1)
    profile = by_metric["grad_norm"].reason.partition(BY_LAYER)[2].split()
    assert len(profile) == 4
    assert "fixed point 2" in by_metric["pre_activation_variance"].reason
    assert by_metric["dead_fraction_trained"].reason.startswith("after 20 steps")


def test_what_can_not_die_does_not_train(catalog: Catalog) -> None:
    by_metric = {r.metric: r for r in records_of(catalog, "tanh")}
    assert by_metric["dead_fraction_trained"].value == 0
    assert "can't die" in by_metric["dead_fraction_trained"].reason


def test_results_repeat_and_seeds_differ(catalog: Catalog) -> None:
    first, again, other = (
        [r.value for r in records_of(catalog, "hard", seeds=(seed,))] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_runaway_is_told_and_not_a_gap(catalog: Catalog) -> None:
    metadata = Metadata(
        title="Cube", summary="Runs away.", formula="x^3", strengths="odd", weaknesses="runs away",
        use_when="Never.", tags="hidden_layer",
    )  # fmt: skip
    cube = Activation("cube", forwards={"reference": lambda x: 100 * x**3}, metadata=metadata)
    records = records_of(catalog.with_variants(cube), "cube", depths=(16,))
    ratio = next(r for r in records if r.metric == "grad_norm_ratio")
    assert ratio.status is Status.OK
    assert ratio.value is None
    assert ratio.reason == "beyond float64 in 2 of 2 draws"


def test_what_has_no_critical_initialisation_says_so(catalog: Catalog) -> None:
    for name, told in (("softplus", "no stable critical"), ("geglu", "not elementwise")):
        records = records_of(catalog, name, initialisations=("critical",))
        flow = [r for r in records if r.cell.extra["check"] == "flow"]
        assert [r.status for r in flow] == [Status.UNSUPPORTED]
        assert told in flow[0].reason


def test_one_layer_has_nothing_to_compare(catalog: Catalog) -> None:
    records = records_of(catalog, "residual", depths=(1,))
    assert [record.status for record in records] == [Status.UNSUPPORTED]
    assert "one layer" in records[0].reason


def test_without_depths_there_is_no_flow(catalog: Catalog) -> None:
    assert not records_of(catalog, "relu", depths=())


def test_axes_are_checked() -> None:
    with pytest.raises(UsageError, match="depths: got 0"):
        selection_for("quick", "gradient", {"depths": (0,)})
    with pytest.raises(UsageError, match="expected one of he, xavier"):
        selection_for("quick", "gradient", {"initialisations": ("lecun",)})
    with pytest.raises(UsageError, match="draws: got 0"):
        selection_for("quick", "gradient", {"draws": 0})
    with pytest.raises(UnknownNameError, match="did you mean depths"):
        selection_for("quick", "gradient", {"depth": (4,)})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run through workers and the store."""
    path = tmp_path_factory.mktemp("flow") / "results.sqlite"
    bakeoff.run(
        "gradient",
        preset="quick",
        results=path,
        catalog=LOADED,
        variants=("tanh", "softplus", "scaled_dot_product", "residual", "plain"),
        seq_lens=(8,),
        depths=(2, 4),
        draws=3,
    )
    return path


def test_the_section(results: Path) -> None:
    contents = contents_of(bakeoff.open_results(results))
    text = terminal(document(contents, wide=False), 80)
    for heading in (
        "Gradient flow with depth",
        "Initialisation of activations",
        "He initialisation, 4 layers",
        "Without skips, 4 layers",
        "With skips, 4 layers",
        "Stacks of connections",
        "Gradients of q, k and v against N",
    ):
        assert heading in text
    assert max(map(len, text.splitlines())) <= 80
    assert "tanh        0.3943  1.5925  1.5925  1.6667  1.7610  0.0500  0.5700" in text
    general = text[: text.index("Gradient flow with depth")]
    assert "grad_norm_ratio" not in general


def test_the_command() -> None:
    done = CliRunner().invoke(cli, ["initialisation", "tanh", "relu", "gelu"])
    assert done.exit_code == 0, done.output
    assert "1.7610" in done.output
    found = json.loads(CliRunner().invoke(cli, ["initialisation", "tanh", "--json"]).output)
    assert found[0]["critical"]["weight_variance"] == pytest.approx(1.761, abs=5e-4)
    refused = CliRunner().invoke(cli, ["initialisation", "softmax"])
    assert refused.exit_code == 2
    assert "softmax: it is not elementwise" in refused.output


def test_a_function_is_enough() -> None:
    assert bakeoff.initialisation(torch.sin).second_moment == pytest.approx(
        (1 - math.exp(-2)) / 2, abs=1e-9
    )
