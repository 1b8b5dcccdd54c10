"""Which cells the learning suite measures: variants, the ceiling, and the controls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.variants import Variant
from bakeoff.suites.learning.controls import CEILINGS, ROLES, controls_of
from bakeoff.suites.learning.models import Sizes, cases_of
from bakeoff.suites.learning.parts import fast_forward
from bakeoff.suites.learning.task import Task
from bakeoff.suites.learning.tasks import tasks_called
from bakeoff.suites.product import sweep
from bakeoff.suites.records import Cell
from bakeoff.suites.selection import Selection
from bakeoff.suites.tensors import why_not

__all__ = ["CONTROL", "NAME", "VERSION", "cells_of", "refused"]

NAME, VERSION = "learning", 1
#: Stands where the name of a control's forward does.
CONTROL = "control"
DTYPE = "float32"


def cells_of(catalog: Catalog, selection: Selection) -> Iterator[Cell]:
    """Every cell: for each task, kind and depth the controls, the ceiling, then the variants.

    Models are trained in float32 alone; without it nothing is selected.

    Raises:
        UnknownNameError: For a task that there is not.
    """
    tasks = tasks_called(selection.tasks)
    if DTYPE not in selection.dtypes:
        return
    chosen = selection.chosen(catalog)
    for task in tasks:
        task = replace(task, steps=selection.steps or task.steps)
        for kind, depths in task.depths.items():
            variants = [variant for variant in chosen if variant.kind == kind]
            for depth in (selection.depths or depths) if variants else ():
                yield from _compared(catalog, selection, task, kind, variants, Sizes(depth))


def _compared(
    catalog: Catalog,
    selection: Selection,
    task: Task,
    kind: str,
    variants: list[Variant],
    sizes: Sizes,
) -> Iterator[Cell]:
    """What stands in one table."""
    if selection.per_section and not selection.variants:
        variants = _representatives(variants, task, sizes)
    ceiling = catalog[CEILINGS[kind]]
    extra = {
        "task": task.name,
        "depth": sizes.depth,
        "steps": task.steps,
        "seeds": ",".join(map(str, selection.seeds)),
    }
    for device, threads in itertools.product(selection.devices, selection.threads):
        place = partial(replace, device=device, threads=threads, seed=selection.seeds[0])
        usual = place(cases_of(ceiling, task, sizes)[0], options={})
        for control in controls_of(task, kind):
            yield Cell(NAME, VERSION, control, CONTROL, usual, {**extra, "role": ROLES[control]})
        for variant in {own.name: own for own in (ceiling, *variants)}.values():
            role = {**extra, "role": "ceiling" if variant.name == ceiling.name else "variant"}
            for options in sweep(variant, selection):
                cases = [place(c, options=options) for c in cases_of(variant, task, sizes)]
                forwards = [f for f in variant.forwards if f in selection.forwards]
                for forward in forwards or [fast_forward(variant, cases)]:
                    yield Cell(NAME, VERSION, variant.name, forward, cases[0], role)


def _representatives(variants: list[Variant], task: Task, sizes: Sizes) -> list[Variant]:
    """One of each section: the first that can run, rather one that needs nothing given."""

    def rank(variant: Variant) -> tuple[bool, bool]:
        case = cases_of(variant, task, sizes)[0]
        return why_not(variant, "reference", case) is not None, variant.inputs is not None

    sections: dict[str, list[Variant]] = {}
    for variant in variants:
        sections.setdefault(variant.metadata.section, []).append(variant)
    return [min(group, key=rank) for group in sections.values()]


def refused(cell: Cell, variant: Variant, task: Task, sizes: Sizes) -> str | None:
    """Why the variant can't stand in the model of its cell; None where it can."""
    for case in cases_of(variant, task, sizes):
        own = replace(case, options=cell.case.options, device=cell.case.device)
        if reason := why_not(variant, cell.forward, own):
            return f"{case.pattern}: {reason}" if task.model == "encoder_decoder" else reason
    return None
