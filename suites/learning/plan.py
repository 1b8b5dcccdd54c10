"""Which cells the learning suite measures: variants, the ceiling, and the controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.shapes import Case
from bakeoff.registry.variants import Variant
from bakeoff.suites.learning.controls import CEILINGS, ROLES, controls_of
from bakeoff.suites.learning.models import Sizes, cases_of
from bakeoff.suites.learning.parts import fast_forward
from bakeoff.suites.learning.task import Task
from bakeoff.suites.learning.tasks import tasks_called
from bakeoff.suites.records import Cell
from bakeoff.suites.selection import Selection, sweep
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
    for device in selection.devices:
        for threads in selection.threads:

            def placed(case: Case, device: str = device, threads: int = threads) -> Case:
                seed = selection.seeds[0]
                return replace(case, device=device, threads=threads, seed=seed)

            extra = {
                "task": task.name,
                "depth": sizes.depth,
                "steps": task.steps,
                "seeds": ",".join(map(str, selection.seeds)),
            }
            usual = placed(cases_of(ceiling, task, sizes)[0])
            for control in controls_of(task, kind):
                role = {**extra, "role": ROLES[control]}
                yield Cell(NAME, VERSION, control, CONTROL, replace(usual, options={}), role)
            for variant in dict.fromkeys([ceiling.name, *(v.name for v in variants)]):
                own = catalog[variant]
                role = {**extra, "role": "ceiling" if own is ceiling else "variant"}
                for options in sweep(own, selection):
                    calls = cases_of(own, task, sizes)
                    cases = [placed(replace(case, options=options)) for case in calls]
                    forwards = [f for f in own.forwards if f in selection.forwards]
                    for forward in forwards or [fast_forward(own, cases)]:
                        yield Cell(NAME, VERSION, variant, forward, cases[0], role)


def _representatives(variants: list[Variant], task: Task, sizes: Sizes) -> list[Variant]:
    """One of each section: the first that can run, rather one that needs nothing given."""

    def rank(variant: Variant) -> tuple[bool, bool]:
        case = cases_of(variant, task, sizes)[0]
        return why_not(variant, "reference", case) is not None, variant.inputs is not None

    sections: dict[str, list[Variant]] = {}
    for variant in variants:
        sections.setdefault(variant.metadata.section, []).append(variant)
    return [min(group, key=rank) for group in sections.values()]


def refused(variant: Variant, forward: str, task: Task, sizes: Sizes) -> str | None:
    """Why the variant can't stand in the task's model; None where it can."""
    for case in cases_of(variant, task, sizes):
        if reason := why_not(variant, forward, case):
            return f"{case.pattern}: {reason}" if task.model == "encoder_decoder" else reason
    return None
