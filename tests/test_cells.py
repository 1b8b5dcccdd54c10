"""Which cells a selection makes, and which need not be measured again."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from plugins import changed, write

import bakeoff
from bakeoff import Catalog
from bakeoff.registry.shapes import PATTERNS
from bakeoff.registry.variants import KINDS
from bakeoff.suites.identity import identified, source_digest
from bakeoff.suites.presets import PRESETS
from bakeoff.suites.product import expand
from bakeoff.suites.records import Cell
from bakeoff.suites.selection import Selection, selection_for
from bakeoff.suites.spec import suites_of


def cells(catalog: Catalog, **given: Any) -> list[Cell]:
    return list(expand("speed", 1, catalog, selection_for("quick", "speed", given)))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_cells_of_every_variant(catalog: Catalog, preset: str) -> None:
    for suite in suites_of(catalog).values():
        if suite.on_request:  # chooses for itself
            continue
        selection = selection_for(preset, suite.name, {})
        planned = [cell for job in suite.plan(catalog, selection) for cell in job.cells]
        assert len({repr(cell.axes()) for cell in planned}) == len(planned)
        # Scaling leaves out what grows with the rows and declares no cost.
        kinds = ("attention",) if suite.name == "scaling" else tuple(KINDS)
        assert {c.label for c in planned if c.case.kind in kinds} == {
            f"{v.name}:{f}"
            for v in catalog.values()
            if v.kind in kinds and "peer" not in v.metadata.tags
            for f in v.forwards
        }


def test_presets_grow(catalog: Catalog) -> None:
    counts = [
        len(list(expand("speed", 1, catalog, selection_for(preset, "speed", {}))))
        for preset in ("quick", "standard", "full")
    ]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("given", "axis", "values"),
    [
        ({"kinds": ("attention",)}, "kind", {"attention"}),
        ({"variants": ("swish",)}, "variant", {"silu"}),
        ({"tags": ("bilinear",)}, "variant", {"general"}),
        ({"forwards": ("sdpa",)}, "forward", {"sdpa"}),
        ({"kinds": ("attention",), "patterns": ("decode", "self")}, "pattern", {"decode", "self"}),
        ({"seq_lens": (7,)}, "seq_len", {7}),
        ({"batches": (3, 5)}, "batch", {3, 5}),
        ({"kinds": ("attention",), "heads": (3,)}, "heads", {3}),
        ({"kinds": ("attention",), "head_dims": (5,)}, "head_dim", {5}),
        ({"kinds": ("attention",), "heads": (4,), "kv_heads": (2,)}, "kv_heads", {2}),
        ({"kinds": ("activation",), "features": (9,)}, "features", {9}),
        ({"dtypes": ("float16",)}, "dtype", {"float16"}),
        ({"devices": ("cuda",)}, "device", {"cuda"}),
        ({"directions": ("backward",)}, "direction", {"backward"}),
        ({"modes": ("compiled",)}, "mode", {"compiled"}),
        ({"inputs": ("peaked",)}, "inputs", {"peaked"}),
        ({"seeds": (1, 2)}, "seed", {1, 2}),
        ({"threads": (2,)}, "threads", {2}),
        (
            {"variants": ("sliding_window",), "options": {"window": (1, 2)}},
            "options",
            {'{"window":1}', '{"window":2}'},
        ),
    ],
)
def test_each_axis_narrows(catalog: Catalog, given: Any, axis: str, values: set[Any]) -> None:
    assert {cell.axes()[axis] for cell in cells(catalog, **given)} == values


def test_every_axis_is_a_flag() -> None:
    from bakeoff.cli.run import run

    flags = {parameter.name for parameter in run.params}
    assert {field.name for field in fields(Selection)} <= flags


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_have_their_shapes(catalog: Catalog, pattern: str) -> None:
    (lengths,) = {
        (cell.case.attention_shape.q_len, cell.case.attention_shape.k_len)
        for cell in cells(
            catalog, variants=("scaled_dot_product",), patterns=(pattern,), seq_lens=(64,)
        )
    }
    queries, keys = {
        "self": (64, 64),
        "causal_self": (64, 64),
        "cross": (64, 32),
        "causal_cross": (64, 128),
        "decode": (1, 64),
    }[pattern]
    assert lengths == (queries, keys)


def test_fewer_key_heads_are_refused_by_what_is_not_grouped(catalog: Catalog) -> None:
    from bakeoff.suites.tensors import why_not

    (cell, *_) = cells(catalog, variants=("scaled_dot_product",), kv_heads=(2,))
    reason = why_not(catalog["scaled_dot_product"], "sdpa", cell.case)
    assert reason == "it needs as many key heads as query heads"


def test_keys_tell_cells_apart_and_nothing_else(catalog: Catalog) -> None:
    planned = cells(catalog, kinds=("attention",))
    keys = {found.key for found in identified(catalog, planned).values()}
    assert len(keys) == len(planned)
    again = [Cell.from_json(cell.to_json()) for cell in planned]
    assert {found.key for found in identified(catalog, again).values()} == keys
    cell = planned[0]
    others = (
        replace(cell, suite_version=9),
        replace(cell, suite="memory"),
        replace(cell, extra={"layer": 1}),
        replace(cell, variant="relu"),
        replace(cell, case=replace(cell.case, options={"window": 1})),
        replace(cell, case=replace(cell.case, inputs="peaked")),
    )
    assert not keys & {found.key for found in identified(catalog, others).values()}
    tuned = identified(catalog, planned, "tuned").values()
    assert not keys & {found.key for found in tuned}


def digest(*files: Path, name: str = "planted") -> str:
    catalog = bakeoff.load(files, entry_points=False, pyproject=False)
    return source_digest(catalog, catalog[name])


def test_the_digest_follows_the_file(tmp_path: Path) -> None:
    first = digest(write(tmp_path, "mine.py"))
    assert digest(write(tmp_path, "mine.py")) == first
    assert digest(write(tmp_path, "mine.py", changed(("* slope", "* slope * 2")))) != first


def test_the_digest_follows_what_a_file_imports_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = changed(("import torch\n", "import torch\nfrom my_helper_of_tests import power\n"))
    digests = []
    for exponent in (1, 2):
        write(tmp_path, "my_helper_of_tests.py", f"def power(x):\n    return x**{exponent}\n")
        digests.append(digest(write(tmp_path, "mine.py", source)))
    assert digests[0] != digests[1]


def test_the_digest_follows_what_an_identity_compares_with(tmp_path: Path) -> None:
    other = write(tmp_path, "other.py", changed(('"planted"', '"other"')))
    identity = '        identities=(Identity("always", equals="other"),),\n        options={'
    mine = write(tmp_path, "mine.py", changed(("        options={", identity)))
    first = digest(other, mine)
    write(tmp_path, "other.py", changed(('"planted"', '"other"'), ("* slope", "* slope * 2")))
    assert digest(other, mine) != first
