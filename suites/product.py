"""The cells of a selection: the product of its axes, for each variant and forward."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bakeoff.registry.binding import resolve_options, takes
from bakeoff.registry.catalog import Catalog
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Attention, Variant
from bakeoff.suites.grids import NO_GRID, ON_GRIDS, grid_of, positions
from bakeoff.suites.records import Cell
from bakeoff.suites.selection import Selection

__all__ = ["expand", "sweep", "usual_heads"]


def expand(
    suite: str,
    version: int,
    catalog: Catalog,
    selection: Selection,
    *,
    directions: tuple[str, ...] | None = None,
    keep: Callable[[Variant], bool] = lambda variant: True,
) -> Iterator[Cell]:
    """Every cell of the selection: forwards vary fastest, so that rivals stand together.

    Args:
        suite: Name of the suite.
        version: Its version.
        catalog: The variants.
        selection: The axes.
        directions: The directions that the suite knows; None for all that are selected.
        keep: Which variants the suite can measure at all.
    """
    wanted = [d for d in selection.directions if directions is None or d in directions]
    for variant in selection.chosen(catalog):
        if not keep(variant):
            continue
        forwards = [
            f for f in variant.forwards if not selection.forwards or f in selection.forwards
        ]
        for case in _cases(variant, selection, wanted):
            for forward in forwards:
                yield Cell(suite, version, variant.name, forward, case)


def _cases(variant: Variant, selection: Selection, directions: list[str]) -> Iterator[Case]:
    attention = variant.kind == "attention"
    if attention:
        shapes = _attention_shapes(variant, _with_allowed_pattern(variant, selection))
    else:
        shapes = _feature_shapes(selection)
    for (
        pattern,
        shape,
    ), options, dtype, device, direction, mode, inputs, seed, threads in itertools.product(
        list(dict.fromkeys(shapes)),
        list(sweep(variant, selection)),
        selection.dtypes,
        selection.devices,
        directions,
        selection.modes,
        selection.inputs,
        selection.seeds,
        selection.threads,
    ):
        yield Case(
            kind=variant.kind,
            shape=shape,
            pattern=pattern,
            options=options,
            dtype=dtype,
            device=device,
            direction=direction,
            mode=mode,
            inputs=inputs,
            seed=seed,
            threads=threads,
        )


def _with_allowed_pattern(variant: Variant, selection: Selection) -> Selection:
    """A variant that allows no selected pattern is measured on one that it allows, too."""
    allowed = variant.declared("patterns")
    if not allowed or set(allowed) & set(selection.patterns):
        return selection
    return replace(selection, patterns=(*selection.patterns, allowed[0]))


def usual_heads(variant: Variant, shape: Shape) -> Shape:
    """The shape with the key heads that a variant is measured with, where no number is asked for.

    As many as in ``shape``; where the variant is grouped, the most that are fewer and that its
    reference supports.
    """
    if not (isinstance(variant, Attention) and variant.grouped):
        return shape
    for kv_heads in range(shape.heads - 1, 0, -1):
        if shape.heads % kv_heads == 0:
            fewer = replace(shape, kv_heads=kv_heads)
            case = Case(kind=variant.kind, shape=fewer, pattern="self", options=variant.options)
            if variant.forward("reference").why_not(case) is None:
                return fewer
    return shape


def _attention_shapes(
    variant: Variant, selection: Selection
) -> Iterator[tuple[str | None, Shape | FeatureShape]]:
    grids = selection.grids if takes(variant, "grid") else (NO_GRID,)
    for pattern, n, batch, heads, dim in itertools.product(
        selection.patterns,
        selection.seq_lens,
        selection.batches,
        selection.heads,
        selection.head_dims,
    ):
        lengths = _lengths(pattern, n, selection.kv_lens)
        for (q_len, k_len), name in itertools.product(lengths, grids):
            grid = grid_of(name, k_len)
            if grid and pattern not in ON_GRIDS:
                continue
            if grid:
                k_len = positions(grid)
                q_len = k_len if pattern == "self" else q_len
            shape = Shape(batch, heads, heads, q_len, k_len, dim, dim, grid)
            if not selection.kv_heads:
                yield pattern, usual_heads(variant, shape)
            for kv_heads in selection.kv_heads:
                yield pattern, replace(shape, kv_heads=kv_heads)


def _lengths(pattern: str, n: int, kv_lens: tuple[int, ...]) -> list[tuple[int, int]]:
    match pattern:
        case "decode":
            return [(1, n)]
        case "cross":
            return [(n, k_len) for k_len in kv_lens or (max(1, n // 2),)]
        case "causal_cross":
            return [(n, k_len) for k_len in kv_lens or (2 * n,)]
        case _:
            return [(n, n)]


def _feature_shapes(selection: Selection) -> Iterator[tuple[str | None, Shape | FeatureShape]]:
    for batch, n, features in itertools.product(
        selection.batches, selection.seq_lens, selection.features
    ):
        yield None, FeatureShape(batch, n, features)


def sweep(variant: Variant, selection: Selection) -> Iterator[dict[str, Any]]:
    """The options of ``variant``, complete, for each combination of the values to sweep."""
    swept = {n: values for n, values in selection.options.items() if n in variant.options}
    for values in itertools.product(*swept.values()):
        yield resolve_options(variant, dict(zip(swept, values, strict=True)))
