"""The cells of gradient flow: what is planned, and how one is measured.

Three checks: ``flow`` runs a stack, ``reach`` one attention over several lengths, and
``initialisation`` needs no stack at all. Each is measured in float64 on the CPU on the reference,
since what it finds is a fact of the formula and of no machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Activation, Attention, Connection, Variant
from bakeoff.suites.flow.comparison import activation_records
from bakeoff.suites.flow.draws import (
    attention_sample,
    connection_sample,
    reach_sample,
)
from bakeoff.suites.flow.gains import initialisation
from bakeoff.suites.flow.quadrature import Curve, curve_of
from bakeoff.suites.flow.samples import records_of
from bakeoff.suites.grids import NO_GRID, grid_of
from bakeoff.suites.product import expand
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job
from bakeoff.suites.tensors import why_not
from bakeoff.suites.verdicts import brief, status_of, usual_pattern

__all__ = ["CHECKS", "measure", "plan"]

CHECKS = ("flow", "reach", "initialisation")
#: Rows of data, and positions of a sequence.
ROWS, POSITIONS = 64, 32
#: Lengths over which the gradients of q, k and v are followed.
LENGTHS = (32, 64, 128)
_REACH_REMARKS = {f"grad_to_{name}": f"at N = {LENGTHS[-1]}" for name in "qkv"}


def plan(suite: str, version: int, catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a variant; none where no depth is selected."""
    if not selection.depths:
        return
    fixed = replace(
        selection,
        patterns=("self",),
        seq_lens=(ROWS,),
        batches=(1,),
        grids=(NO_GRID, "square"),
        dtypes=("float64",),
        devices=("cpu",),
        modes=("eager",),
        inputs=("normal",),
        directions=("training",),
    )
    cells = expand(suite, version, catalog, fixed)
    # Of patterns each attention has its usual one: self, where its mechanism allows that.
    named = dict.fromkeys(
        _usual(catalog[cell.variant], cell) for cell in cells if cell.forward == "reference"
    )
    for name, group in groupby(named, key=lambda cell: cell.variant):
        found = [c for cell in group for c in _cells(catalog[name], cell, selection)]
        yield Job(tuple(found), untimed=True)


def _usual(variant: Variant, cell: Cell) -> Cell:
    if not isinstance(cell.case.shape, Shape):
        return cell
    grid = grid_of("square", POSITIONS) if cell.case.shape.grid else None
    shape = replace(cell.case.shape, q_len=POSITIONS, k_len=POSITIONS, grid=grid)
    return replace(cell, case=replace(cell.case, shape=shape, pattern=usual_pattern(variant)))


def _cells(variant: Variant, cell: Cell, selection: Selection) -> Iterator[Cell]:
    def having(check: str, **extra: Any) -> Cell:
        return replace(cell, extra={"check": check, **extra, "draws": selection.draws})

    match variant:
        case Activation():
            yield replace(cell, extra={"check": "initialisation"})
            for name in selection.initialisations:
                for depth in selection.depths:
                    yield having("flow", depth=depth, initialisation=name)
        case Attention():
            for skip in (False, True):
                for depth in selection.depths:
                    yield having("flow", depth=depth, skip=skip)
            yield having("reach")
        case Connection():
            for depth in selection.depths:
                yield having("flow", depth=depth)


def measure(job: Job) -> Iterator[Record]:
    """The records of each cell; an exception is one too."""
    curves: dict[str, Curve | None] = {}  # one a variant and its options: they remember moments
    for cell in job.cells:
        job.announce(cell)
        variant = job.catalog[cell.variant]
        try:
            reason = why_not(variant, cell.forward, cell.case)
            if reason:
                raise UnsupportedError(reason)
            found = list(_records(variant, cell, curves))
        except UnsupportedError as answer:
            found = [whole_cell(cell, Status.UNSUPPORTED, str(answer))]
        except Exception as error:
            found = [whole_cell(cell, status_of(error), brief(error))]
        yield from found


def _records(variant: Variant, cell: Cell, curves: dict[str, Curve | None]) -> Iterator[Record]:
    case, extra = cell.case, cell.extra
    if extra.get("depth", 2) < 2:
        raise UnsupportedError("a stack of one layer has no first and last to compare")
    draws = int(extra.get("draws", 1))
    seeds = [draws * case.seed + draw for draw in range(draws)]
    match variant, extra["check"]:
        case Activation(), "initialisation":
            yield from _initialisation(variant, cell)
        case Activation(), "flow":
            key = f"{variant.name} {dict(case.options)}"
            if key not in curves:
                curves[key] = _curve(variant, case.options)
            yield from activation_records(variant, cell, seeds, curves[key])
        case Attention(), "flow":
            yield from records_of(
                cell,
                [
                    attention_sample(variant, case, extra["depth"], extra["skip"], seed)
                    for seed in seeds
                ],
            )
        case Attention(), "reach":
            samples = [reach_sample(variant, case, LENGTHS, seed) for seed in seeds]
            yield from records_of(cell, samples, _REACH_REMARKS)
        case Connection(), "flow":
            samples = [connection_sample(variant, case, extra["depth"], seed) for seed in seeds]
            yield from records_of(cell, samples)


def _curve(variant: Activation, options: Mapping[str, Any]) -> Curve | None:
    try:
        return curve_of(variant, options)
    except UnsupportedError:
        return (
            None  # not elementwise: theory has nothing to say, the stack is measured all the same
        )


def _initialisation(variant: Activation, cell: Cell) -> Iterator[Record]:
    found = initialisation(variant, options=cell.case.options)
    yield Record(cell, "second_moment", found.second_moment)
    yield Record(cell, "gain", found.gain)
    constant = "" if found.gain_of_deviation else "it is constant"
    yield Record(cell, "gain_of_deviation", found.gain_of_deviation, reason=constant)
    unknown = "" if found.torch_gain else "torch's calculate_gain knows no such activation"
    yield Record(cell, "torch_gain", found.torch_gain, reason=unknown)
    point = found.critical
    values: dict[str, float | None] = {
        "critical_weight_variance": point.weight_variance if point else None,
        "critical_bias_variance": point.bias_variance if point else None,
        "critical_fixed_point": point.fixed_point if point else None,
    }
    for metric, value in values.items():
        yield Record(cell, metric, value, reason=found.reason)
