"""Variants over a grid are measured with grids, and what ignores or mistakes a grid is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import (
    Attention,
    Case,
    Forward,
    Identity,
    Metadata,
    Shape,
    UnsupportedError,
    UsageError,
    masked_softmax,
)
from bakeoff.registry.shapes import PATTERNS
from bakeoff.reports.words import verbal
from bakeoff.suites.builtin.scaling import at_length
from bakeoff.suites.grids import grid_of, positions, resized
from bakeoff.suites.product import expand
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of
from bakeoff.suites.tensors import why_not
from bakeoff.suites.verdicts import Subject

Tensor = torch.Tensor


def same_row(q, k, v, *, grid, mask=None, causal=False, scale=None):
    """Each position of a grid attends to its own row."""
    ((height, width),) = grid
    row = torch.arange(height * width, device=q.device) // width
    allowed = row[:, None] == row
    if mask is not None:
        allowed = allowed & mask
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed) @ v


def by_rows(q, k, v, *, grid, mask=None, causal=False, scale=None):
    """The same in one small product a row."""
    ((height, width),) = grid
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    q, k, v = (x.unflatten(2, (height, width)) for x in (q, k, v))
    allowed = None
    if mask is not None:
        mask = mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
        allowed = mask.expand(*mask.shape[:2], 1, height * width).unflatten(-1, (height, width))
        allowed = allowed.transpose(2, 3)  # (B, 1, h, 1, w)
    return (masked_softmax(q @ k.mT * scale, allowed) @ v).flatten(2, 3)


def by_columns(q, k, v, *, grid, mask=None, causal=False, scale=None):
    """A mistake: the grid read the other way round."""
    ((height, width),) = grid
    return by_rows(q, k, v, grid=((width, height),), mask=mask, scale=scale)


def everywhere(q, k, v, *, grid, mask=None, causal=False, scale=None):
    """A mistake: every position sees every other."""
    return same_row(q, k, v, grid=((1, q.shape[2]),), mask=mask, scale=scale)


def blind(q, k, v, *, mask=None, causal=False, scale=None):
    """It asks for no grid."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, mask) @ v


def one_level(case: Case) -> str | None:
    grid = case.attention_shape.grid
    if grid is None or len(grid) > 1:
        return "it needs a grid of one level"
    return None if case.pattern == "self" else "its queries are the positions of the grid"


def one_row(shape: Shape) -> dict[str, Any]:
    raise UnsupportedError("said of grids with one row")


def planted(fast: Callable[..., Tensor], **changes: Any) -> Attention:
    forwards = {
        "reference": Forward(same_row, supports=one_level, complexity="N^2"),
        "fast": Forward(fast, supports=one_level, masks="keys", complexity="N sqrt N"),
    }
    metadata = Metadata(
        title="Planted", summary="Rows of a grid.", formula="o", strengths=("short",),
        weaknesses=("useless",), use_when="Never.", tags=("soft",), unused=("causal",),
        properties={"row_stochastic": True, "patterns": ("self",)},
    )  # fmt: skip
    return Attention("planted", **{"forwards": forwards, "metadata": metadata, **changes})


def planned(variant: Attention, suite: str = "accuracy", **given: Any) -> list[Cell]:
    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(variant)
    selection = selection_for("quick", suite, {"variants": ("planted",), **given})
    return list(expand(suite, 1, catalog, selection))


def records_of(variant: Attention, *suites: str, **given: Any) -> list[Record]:
    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(variant)
    found: list[Record] = []
    for suite in suites_of(catalog, suites).values():
        selection = selection_for(
            "quick", suite.name, {"variants": ("planted",), "seq_lens": (24,), **given}
        )
        for job in suite.plan(catalog, selection):
            found += suite.measure(replace(job, catalog=catalog))
    return found


def wrong(records: list[Record]) -> dict[str, str]:
    """What is not as it should be: a reference alone is unverified, which is no fault."""
    fine = (Status.OK, Status.UNSUPPORTED, Status.UNVERIFIED)
    return {r.metric: r.reason for r in records if r.status not in fine}


@pytest.mark.parametrize(
    ("name", "n", "grid"),
    [
        ("none", 96, None),
        ("square", 96, ((8, 12),)),
        ("square", 37, ((1, 37),)),
        ("square", 1, ((1, 1),)),
        ("pyramid", 96, ((8, 12), (4, 6))),
        ("pyramid", 3, ((1, 3), (1, 1))),
        ("8x12", 7, ((8, 12),)),
        ("8x12 + 4x6", 7, ((8, 12), (4, 6))),
    ],
)
def test_names_of_grids(name: str, n: int, grid: object) -> None:
    assert grid_of(name, n) == grid


@pytest.mark.parametrize("name", ["8", "8x", "8y12", "8x12+", "0x3", "sqare", "-1x3"])
def test_what_is_no_grid(name: str) -> None:
    with pytest.raises(UsageError, match=r"grids: got .* expected none, square, pyramid, or"):
        selection_for("quick", "accuracy", {"grids": (name,)})


def test_resized_grids() -> None:
    for n in (512, 1024, 2048, 37):
        assert positions(resized(((8, 12),), n)) == n
    assert resized(((8, 12), (4, 6)), 480) == ((16, 24), (8, 12))


def test_a_variant_that_takes_a_grid_is_measured_with_grids() -> None:
    cells = planned(planted(by_rows), patterns=tuple(PATTERNS))
    shapes = {(c.case.pattern, c.case.attention_shape) for c in cells}
    grids = {(pattern, s.grid, s.q_len, s.k_len) for pattern, s in shapes if s.grid}
    assert grids == {
        ("self", ((8, 12),), 96, 96),
        ("self", ((8, 12), (4, 6)), 120, 120),
        ("cross", ((6, 8),), 96, 48),
        ("cross", ((6, 8), (3, 4)), 96, 60),
    }
    assert {pattern for pattern, s in shapes if not s.grid} == set(PATTERNS)


def test_grids_that_are_asked_for() -> None:
    shapes = [c.case.attention_shape for c in planned(planted(by_rows), grids=("3x4", "2x2+1x2"))]
    assert {s.grid for s in shapes} == {((3, 4),), ((2, 2), (1, 2))}
    lengths = planned(planted(by_rows), grids=("3x4",), seq_lens=(5, 9), patterns=("self",))
    assert len({repr(c.axes()) for c in lengths}) == len(lengths)
    assert {c.case.seq_len for c in lengths} == {12}


def test_others_have_no_grid(catalog: bakeoff.Catalog) -> None:
    selection = selection_for(
        "quick", "accuracy", {"kinds": ("attention",), "grids": ("3x4", "none")}
    )
    cells = list(expand("accuracy", 1, catalog, replace(selection, variants=("dot_product",))))
    assert {c.case.attention_shape.grid for c in cells} == {None}


def test_right_over_a_grid() -> None:
    records = records_of(planted(by_rows), "accuracy", "gradient")
    assert not wrong(records)
    assert Status.UNVERIFIED not in {r.status for r in records}, "each has the other"
    for forward in ("reference", "fast"):
        measured = {
            r.metric for r in records if r.cell.forward == forward and r.status == Status.OK
        }
        assert {"error_ratio", "grad_error_ratio", "gradcheck", "prime", "extreme"} <= measured
    assert all(r.reason for r in records if r.status == Status.UNSUPPORTED)
    properties = [r for r in records if r.metric == "property_row_stochastic"]
    assert [r.status for r in properties] == [Status.UNSUPPORTED, Status.OK]


def test_a_grid_read_the_other_way_round_is_wrong() -> None:
    found = wrong(records_of(planted(by_columns), "accuracy", "gradient"))
    assert {"error_ratio", "grad_error_ratio", "prime"} <= set(found)


def test_a_grid_that_is_ignored_is_wrong() -> None:
    variant = planted(everywhere)
    forwards = {"reference": Forward(everywhere, supports=one_level)}
    found = wrong(records_of(replace(variant, forwards=forwards), "accuracy"))
    assert found == {
        "arguments_matter": "no effect: grid (use it, or declare it unused)",
    }


def test_a_forward_without_a_grid_can_run_no_case_with_one() -> None:
    variant = planted(blind)
    variant = replace(variant, forwards={**variant.forwards, "blind": Forward(blind)})
    case = Case(kind="attention", shape=Shape(1, 1, 1, 6, 6, 4, 4, ((2, 3),)), pattern="self")
    assert why_not(variant, "blind", case) == "it takes no grid"
    assert why_not(variant, "reference", case) is None
    plain = replace(case, shape=replace(case.attention_shape, grid=None))
    assert why_not(variant, "blind", plain) is None
    assert why_not(replace(variant, forwards={"reference": blind}), "reference", case) is None


def test_identities_see_the_grid() -> None:
    identities = (
        Identity("rows", equals=same_row, unless=lambda shape: {"flip": True}),
        Identity("one row", equals=blind, options=one_row),
    )

    def flipping(q, k, v, *, flip, grid, mask=None, causal=False, scale=None):
        grid = tuple((w, h) for h, w in grid) if flip else grid
        return same_row(q, k, v, grid=grid, mask=mask, scale=scale)

    variant = planted(
        by_rows,
        forwards={"reference": Forward(flipping, supports=one_level)},
        options={"flip": False},
        identities=identities,
    )
    records = records_of(variant, "accuracy")
    assert not wrong(records)
    found = {
        (r.cell.extra["identity"], r.status, r.reason)
        for r in records
        if r.metric == "identity" and r.cell.case.attention_shape.grid
    }
    assert found == {
        ("rows", Status.OK, ""),
        ("one row", Status.UNSUPPORTED, "said of grids with one row"),
    }


def test_small_cases_over_a_grid() -> None:
    subject = Subject(
        replace(planted(blind), forwards={"reference": blind}), "reference", grid=True
    )
    with pytest.raises(Exception, match="does not allow the pattern cross"):
        subject.case("cross")
    open_to_all = replace(
        subject.variant, metadata=replace(subject.variant.metadata, properties={})
    )
    subject = replace(subject, variant=open_to_all)
    sizes = {"self": {"k_len": 131, "q_len": 131}, "cross": {"k_len": 53, "q_len": 29}}
    shapes = {p: subject.case(p, **s).attention_shape for p, s in sizes.items()}
    assert (shapes["self"].q_len, shapes["self"].k_len) == (132, 132)
    assert (shapes["cross"].q_len, shapes["cross"].k_len) == (29, 56)
    assert subject.case("self", q_len=1, k_len=1).attention_shape.grid == ((1, 1),)


def test_scaling_keeps_the_grid() -> None:
    case = Case(kind="attention", shape=Shape(1, 1, 1, 96, 96, 4, 4, ((8, 12),)), pattern="self")
    assert at_length(case, 512).attention_shape.grid == ((16, 32),)
    assert at_length(case, 512).seq_len == 512
    cross = replace(case, pattern="cross", shape=replace(case.attention_shape, q_len=192))
    assert at_length(cross, 512).attention_shape.grid == ((16, 16),)
    assert at_length(cross, 512).seq_len == 512


@pytest.mark.parametrize(("declared", "right"), [("N", True), ("N^2", False)])
def test_growth_over_a_grid_is_judged(declared: str, right: bool) -> None:
    forwards = {
        "reference": Forward(same_row, supports=one_level, complexity="N^2"),
        "fast": Forward(by_rows, supports=one_level, masks="keys", complexity=declared),
    }
    chosen = {"forwards": ("fast",), "directions": ("forward",), "grids": ("square",)}
    records = records_of(planted(by_rows, forwards=forwards), "scaling", budget=0.05, **chosen)
    found = [r.status for r in records if r.metric == "flops_exponent"]
    assert found == [Status.OK if right else Status.WRONG]


def test_grids_in_words() -> None:
    assert verbal("grid", "[[8, 12]]") == "grid 8×12"
    assert verbal("grid", None) == ""
    assert verbal("grid", "what a hand wrote") == "grid what a hand wrote"
