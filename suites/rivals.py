"""Prepares the rivals of a race and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UsageError
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Attention
from bakeoff.suites.calls import Call
from bakeoff.suites.counting import will_not_fit
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.tensors import why_not
from bakeoff.suites.verdicts import brief, status_of

__all__ = ["BASELINES", "TWIN", "baseline_for", "baseline_of", "options_of", "prepared"]

#: What the rivals of each kind are compared with.
BASELINES = {
    "activation": "relu:torch",
    "attention": "scaled_dot_product:sdpa",
    "connection": "residual:reference",
}
#: The baseline again, as a rival of itself: how far apart two equals come out.
TWIN = "the baseline again"


def baseline_of(catalog: Catalog, kind: str, wanted: str) -> str:
    """The label of the baseline of a kind: ``wanted`` where that is of this kind.

    Raises:
        UnknownNameError: For a variant or a forward that there is not.
        UsageError: For what is no label.
    """
    if not wanted:
        return BASELINES[kind]
    name, colon, forward = wanted.partition(":")
    if not colon:
        raise UsageError(f"baseline: got {wanted!r}, expected VARIANT:FORWARD, as relu:torch")
    variant = catalog[name]
    variant.forward(forward)
    return f"{variant.name}:{forward}" if variant.kind == kind else BASELINES[kind]


def prepared(catalog: Catalog, cell: Cell, beside: Iterable[Call] = ()) -> Call | Record:
    """The cell, ready to run, on the data of those beside it; or the record that says why not."""
    variant = catalog[cell.variant]
    reason = why_not(variant, cell.forward, cell.case)
    if reason:
        return whole_cell(cell, Status.UNSUPPORTED, reason)
    try:
        reason = will_not_fit(variant, cell.forward, cell.case)
        if reason:
            return whole_cell(cell, Status.OOM, reason)
        shared = next((call.arguments.shared() for call in beside), None)
        return Call.of(variant, cell, shared)
    except Exception as error:
        return whole_cell(cell, status_of(error), brief(error))


def baseline_for(
    catalog: Catalog, cell: Cell, label: str, beside: Iterable[Call] = ()
) -> Call | str:
    """The baseline on the case of ``cell``, as :func:`prepared`; or why there is none.

    A baseline that can't share key heads gets as many as it has heads: that is what sharing saves.
    """
    name, _, forward = label.partition(":")
    if name not in catalog:
        return f"the baseline {label} is not registered"
    baseline, shape = catalog[name], cell.case.shape
    if isinstance(baseline, Attention) and isinstance(shape, Shape) and not baseline.grouped:
        shape = replace(shape, kv_heads=shape.heads)
    case = replace(cell.case, shape=shape, options=dict(baseline.options))
    found = prepared(catalog, replace(cell, variant=name, forward=forward, case=case), beside)
    if isinstance(found, Record):
        return f"the baseline {label} does not run here: {found.reason}"
    return found


def options_of(cell: Cell) -> str:
    """Tells apart the rivals of one variant in a sweep of its options."""
    return "".join(f" {name}={value}" for name, value in cell.case.options.items())
