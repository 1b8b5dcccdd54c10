"""Adapters to other libraries: right, absent where the library is, and out of every default run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_check import wrong_in

import bakeoff
from bakeoff.checking import jobs_of
from bakeoff.registry.variants import Variant
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
PEERS = CATALOG.select(tags="peer")


def test_those_of_torch_are_always_there() -> None:
    names = {variant.name for variant in PEERS}
    assert names >= {"torch_hardshrink", "torch_softshrink", "torch_tanhshrink", "torch_softmin"}


@pytest.mark.filterwarnings("ignore")  # those of the packages
@pytest.mark.parametrize("variant", PEERS, ids=lambda variant: variant.name)
def test_each_is_right(variant: Variant) -> None:
    """Through the certificate's cells, in this process."""
    made = 0
    for job in jobs_of(CATALOG, variant.name, dtypes="float32", inputs="normal"):
        suite = suites_of(CATALOG, [job.suite])[job.suite]
        records = list(suite.measure(replace(job, catalog=CATALOG)))
        assert wrong_in(records) == {}
        made += sum(r.cell.forward != "reference" and r.status == "ok" for r in records)
    assert made > 10


@pytest.mark.filterwarnings("ignore")  # likewise
def test_a_mod_that_differs_is_found() -> None:
    pytest.importorskip("attn_gym", reason="attn_gym is not installed: bakeoff[peers]")
    right = CATALOG["attn_gym_sliding_window"]
    window = right.forward("uncompiled")

    def one_more(q, k, v, *, window: int, **given):
        return right.forward("uncompiled").fn(q, k, v, window=window + 1, **given)

    forwards = {**right.forwards, "uncompiled": replace(window, fn=one_more)}
    catalog = CATALOG.with_variants(replace(right, name="planted", forwards=forwards))
    wrong = [
        error
        for job in jobs_of(catalog, "planted", dtypes="float32", inputs="normal")
        if job.suite == "accuracy"
        for error in wrong_in(
            list(
                suites_of(catalog, ["accuracy"])["accuracy"].measure(replace(job, catalog=catalog))
            )
        )
    ]
    assert "error_ratio" in wrong


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
