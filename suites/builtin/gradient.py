"""Gradient: gradients against the float64 reference, gradcheck, and gradient flow with depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch
from torch.autograd.gradcheck import GradcheckError

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import FeatureShape, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.budget import Oracle, gradients_of
from bakeoff.suites.derivatives import compiled_anew, worst_difference
from bakeoff.suites.errors import Errors
from bakeoff.suites.flow import cells as flow
from bakeoff.suites.flow.metrics import METRICS as FLOW_METRICS
from bakeoff.suites.independence import unless_dependent
from bakeoff.suites.metrics import Metric
from bakeoff.suites.product import expand, usual_heads
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.tensors import arguments_for, why_not
from bakeoff.suites.verdicts import (
    Unsupported,
    Verdict,
    agreement,
    brief,
    record_of,
    right_if,
    status_of,
    usual_pattern,
)

NAME, VERSION = "gradient", 2


METRICS = {
    "grad_error_ratio": Metric(
        "The RMS error of the gradient against float64, in units of its budget; the worst of all "
        "inputs and parameters; at most 2 passes.",
        better="less",
        varies="rounding",
    ),
    "gradcheck": Metric(
        "The backward agrees with differences of the forward, in float64; or does not, where the "
        "variant declares that it is not differentiable."
    ),
    **FLOW_METRICS,
}

#: gradcheck makes a matrix of every output by every input: the sizes must be small.
TINY_ATTENTION = Shape(batch=1, heads=2, kv_heads=2, q_len=5, k_len=5, head_dim=4, value_dim=4)
TINY_ON_GRID = replace(TINY_ATTENTION, q_len=6, k_len=6, grid=((2, 3),))
TINY_FEATURES = FeatureShape(batch=1, seq_len=3, features=6)


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """Two jobs a variant: errors by case and gradchecks; and deep stacks."""
    cells = expand(NAME, VERSION, catalog, selection, directions=("training",))
    for name, group in groupby(cells, key=lambda cell: cell.variant):
        errors = [replace(cell, extra={"check": "error"}) for cell in group]
        yield Job((*errors, *_gradchecks(catalog[name], errors)), untimed=True)
    yield from flow.plan(NAME, VERSION, catalog, selection)


def _gradchecks(variant: Variant, errors: list[Cell]) -> Iterator[Cell]:
    likes = {(c.forward, _on_grid(c)): c for c in reversed(errors)}
    for (_, on_grid), cell in likes.items():
        attention = variant.kind == "attention"
        tiny = usual_heads(variant, TINY_ON_GRID if on_grid else TINY_ATTENTION)
        shape = tiny if attention else TINY_FEATURES
        pattern = usual_pattern(variant) if attention else None
        case = replace(cell.case, shape=shape, pattern=pattern, dtype="float64", inputs="normal")
        yield replace(cell, case=case, extra={"check": "gradcheck"})


def _on_grid(cell: Cell) -> bool:
    return isinstance(cell.case.shape, Shape) and cell.case.shape.grid is not None


def measure(job: Job) -> Iterator[Record]:
    """Error cells of one case share its oracle; gradient flow has jobs of its own."""
    if job.cells[0].extra["check"] in flow.CHECKS:
        yield from flow.measure(job)
        return
    for case, group in groupby(job.cells, key=lambda cell: (cell.case, cell.extra["check"])):
        cells, oracle = list(group), None
        variant = job.catalog[cells[0].variant]
        for cell in cells:
            job.announce(cell)
            reason = why_not(variant, cell.forward, cell.case)
            if reason:
                yield whole_cell(cell, Status.UNSUPPORTED, reason)
            elif case[1] == "gradcheck":
                yield record_of(cell, "gradcheck", partial(_gradcheck, variant, cell))
            else:
                try:
                    oracle = oracle or Oracle(variant, cell.case, gradients_of)
                    worst = oracle.judge(variant.forward(cell.forward).fn)[0]
                    check = partial(_agreement, oracle, cell, variant, worst)
                    yield record_of(cell, "grad_error_ratio", check)
                except Exception as error:
                    yield whole_cell(cell, status_of(error), brief(error))


def _agreement(oracle: Oracle, cell: Cell, variant: Variant, worst: Errors) -> Verdict:
    """Over all leaves: inputs, parameters, the branch's weight. What is right names the worst."""
    found = agreement(oracle, cell.forward, worst)
    found = replace(found, reason=found.reason or f"worst: {worst.name}")
    return unless_dependent(found, variant, cell.forward, cell.case)


def _gradcheck(variant: Variant, cell: Cell) -> Verdict:
    """The backward against differences of the forward, in float64.

    Where the variant declares that it is not differentiable they must differ.
    """
    arguments = arguments_for(variant, cell.case).requiring_grad()
    leaves = arguments.leaves()
    if not leaves:
        raise Unsupported("nothing to differentiate")
    fn = variant.forward(cell.forward).fn
    declared = variant.declared("differentiable", True)

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        return arguments.replacing(dict(zip(leaves, tensors, strict=True))).call(fn)

    with compiled_anew():
        try:
            torch.autograd.gradcheck(call, tuple(leaves.values()))
        except GradcheckError as error:
            # torch tells inputs by their number; what differs in other ways has its words alone.
            reason = worst_difference(call, leaves) or brief(error)
            if declared:
                return Verdict(Status.WRONG, reason=reason)
            return Verdict(Status.OK, reason=f"not the derivative, as declared: {reason}")
    return right_if(declared, "declared not differentiable, but it is the derivative")


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "Is its gradient right, and how does it flow through deep stacks.",
        plan,
        measure,
        metrics=METRICS,
    )
