"""Adapters to other libraries: right, absent where the library is, and out of every default run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peers_faults import FAULTS_OF_PEERS
from test_check import wrong_in

import bakeoff
from bakeoff.checking import jobs_of
from bakeoff.registry.catalog import Catalog
from bakeoff.registry.variants import Variant
from bakeoff.suites.records import Record
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
PEERS = CATALOG.select(tags="peer")


def test_those_of_torch_are_always_there() -> None:
    names = {variant.name for variant in PEERS}
    assert names >= {"torch_hardshrink", "torch_softshrink", "torch_tanhshrink", "torch_softmin"}


def records_of(catalog: Catalog, name: str) -> Iterator[Record]:
    """Those of the certificate's cells, in this process."""
    for job in jobs_of(catalog, name, dtypes="float32", inputs="normal"):
        suite = suites_of(catalog, [job.suite])[job.suite]
        yield from suite.measure(replace(job, catalog=catalog))


@pytest.mark.filterwarnings("ignore")  # those of the packages
@pytest.mark.parametrize("variant", PEERS, ids=lambda variant: variant.name)
def test_each_is_right(variant: Variant) -> None:
    records = list(records_of(CATALOG, variant.name))
    known = {metric for name, metric in FAULTS_OF_PEERS if name == variant.name}
    assert wrong_in(records).keys() <= known
    made = [r.cell.forward for r in records if r.cell.forward != "reference" and r.status == "ok"]
    # What has no backward has half as many checks.
    backward = any(variant.forward(name).backward for name in made)
    assert len(made) > (20 if backward else 10)


@pytest.mark.filterwarnings("ignore")  # likewise
def test_a_mod_that_differs_is_found() -> None:
    pytest.importorskip("attn_gym", reason="attn_gym is not installed: bakeoff[peers]")
    right = CATALOG["attn_gym_sliding_window"]
    uncompiled = right.forward("uncompiled")

    def one_more(q, k, v, *, window: int, **given):
        return uncompiled.fn(q, k, v, window=window + 1, **given)

    forwards = {**right.forwards, "uncompiled": replace(uncompiled, fn=one_more)}
    catalog = CATALOG.with_variants(replace(right, name="planted", forwards=forwards))
    assert "error_ratio" in wrong_in(list(records_of(catalog, "planted")))


def test_a_run_leaves_them_out_unless_they_are_asked_for() -> None:
    def chosen(**given: tuple[str, ...]) -> set[str]:
        selection = selection_for("quick", "accuracy", given)
        return {variant.name for variant in selection.chosen(CATALOG)}

    peers = {variant.name for variant in PEERS}
    assert not chosen() & peers
    assert not chosen(kinds=("activation",)) & peers
    assert chosen(tags=("peer",)) == peers
    assert chosen(variants=("torch_hardshrink", "relu")) == {"torch_hardshrink", "relu"}


def test_a_package_is_found_without_being_imported(tmp_path: Path) -> None:
    """A package that can't be imported is registered, and refuses with the reason."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("raise OSError('broken')\n")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import bakeoff\n"
        "catalog = bakeoff.load(entry_points=False, pyproject=False)\n"
        "print(catalog.problems, 'timm' in sys.modules)\n"
        "case = bakeoff.Case(kind='activation', shape=bakeoff.FeatureShape(1, 2, 3))\n"
        "print(catalog['timm_hard_mish'].forward('timm').why_not(case))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "() False",
        "timm.layers.activations.hard_mish of the installed version can't be used: broken",
    ]
