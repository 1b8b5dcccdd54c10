"""Applications: variants inside real models, trained on data with a known floor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Case
from bakeoff.suites.applications.application import Application, application, applications
from bakeoff.suites.grids import NO_GRID
from bakeoff.suites.metrics import Metric
from bakeoff.suites.product import expand
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.tensors import dtype_of, why_not
from bakeoff.suites.verdicts import brief, status_of

if TYPE_CHECKING:
    from bakeoff.suites.applications.training import Run

NAME, VERSION = "applications", 2

#: Curves, and norms by layer, have names of their own beside these: they are shown, not compared.
METRICS = {
    "floor": Metric("The least loss that any model can expect."),
    "steps": Metric("Training steps."),
    "loss_before": Metric("The loss on held-out data before training.", varies="seed"),
    "loss_after": Metric("The loss on held-out data after training.", better="less", varies="seed"),
    "step_time": Metric("The median time of a training step.", "s", better="less", varies="launch"),
    "time_ratio": Metric(
        "The time of a step ÷ that of the model as it is, in one race.",
        better="less",
        varies="launch",
    ),
    "peak_bytes": Metric("The most that a step holds at once.", "bytes", better="less"),
    "tokens_per_second": Metric("Tokens ÷ the time of a step.", "1/s", "more", "launch"),
    "images_per_second": Metric("Images ÷ the time of a step.", "1/s", "more", "launch"),
}

#: The model as it is, and the model of which each example sees the data of another.
UNSWAPPED, BLIND = "(unswapped)", "(blind)"
ORIGINAL = "original"


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a seed: transformers is imported once in each."""
    apps = [application(name) for name in selection.models or applications()]
    cells = [cell for app in apps for cell in _cells(catalog, selection, app)]
    for seed in selection.seeds:
        own = tuple(cell for cell in cells if cell.case.seed == seed)
        if own:
            yield Job(own)


def _cells(catalog: Catalog, selection: Selection, app: Application) -> Iterator[Cell]:
    """The controls, and every variant that can stand in the model, by one forward each."""
    extra = {"model": app.name, "effort": selection.effort}
    axes = replace(
        selection,
        patterns=(app.pattern,),
        seq_lens=(app.shape.q_len,),
        grids=(NO_GRID,),
        batches=(app.shape.batch,),
        heads=(app.shape.heads,),
        kv_heads=(),
        head_dims=(app.shape.head_dim,),
        features=(app.features,),
        directions=("training",),
        modes=("eager",),
        inputs=("normal",),
    )
    swapped = [
        replace(cell, extra=extra)
        for cell in expand(NAME, VERSION, catalog, axes)
        if app.attends and cell.case.pattern in (None, app.pattern)
    ]
    yield from (cell for cell in _controls(axes, app, extra))
    for _, group in groupby(swapped, key=lambda cell: (cell.variant, repr(cell.case))):
        rivals = list(group)
        yield from rivals if selection.forwards else [_usual(catalog, rivals)]


def _controls(axes: Selection, app: Application, extra: Mapping[str, Any]) -> Iterator[Cell]:
    for device in axes.devices:
        for dtype in axes.dtypes:
            for seed in axes.seeds:
                case = Case(
                    kind="attention", shape=app.shape, pattern=app.pattern, dtype=dtype,
                    device=device, direction="training", threads=axes.threads[0], seed=seed,
                )  # fmt: skip
                yield Cell(NAME, VERSION, UNSWAPPED, ORIGINAL, case, extra)
                if seed == axes.seeds[0]:
                    yield Cell(NAME, VERSION, BLIND, ORIGINAL, case, extra)


def _usual(catalog: Catalog, rivals: list[Cell]) -> Cell:
    """By a faster forward than the reference, where there is one that can run it."""
    variant = catalog[rivals[0].variant]
    able = [cell for cell in rivals if why_not(variant, cell.forward, cell.case) is None]
    fast = [cell for cell in able if cell.forward != "reference"]
    return (fast or able or rivals)[0]


def measure(job: Job) -> Iterator[Record]:
    """Train each, and say what came of it."""
    for cell in job.cells:
        job.announce(cell)
        app = application(cell.extra["model"])
        if missing := app.missing():
            yield whole_cell(cell, Status.UNSUPPORTED, f"{app.name} is not installed: {missing}")
            continue
        try:
            yield from _records(cell, app, _run(job.catalog, cell, app))
        except UnsupportedError as answer:
            yield whole_cell(cell, Status.UNSUPPORTED, str(answer))
        except Exception as error:
            yield whole_cell(cell, status_of(error), brief(error))


def _run(catalog: Catalog, cell: Cell, app: Application) -> Run:
    from bakeoff.suites.applications.swap import swap
    from bakeoff.suites.applications.training import train

    def prepare(model: Any, example: Mapping[str, Any]) -> None:
        if cell.variant not in (UNSWAPPED, BLIND):
            swap(
                model,
                catalog[cell.variant],
                forward=cell.forward,
                options=cell.case.options,
                example=example,
            )

    return train(
        app,
        prepare,
        steps=max(1, round(app.steps * cell.extra["effort"])),
        seed=cell.case.seed,
        device=cell.case.device,
        dtype=dtype_of(cell.case.dtype),
        blind=cell.variant == BLIND,
    )


def _records(cell: Cell, app: Application, run: Run) -> list[Record]:
    """Losses are in nats per item, but for those that add distances of boxes."""
    records = [
        Record(cell, "floor", app.floor),
        Record(cell, "steps", float(max(run.curves["loss"]))),
    ]
    for name, curve in run.curves.items():
        first, *between, last = curve
        records.append(Record(cell, f"{name}_before", curve[first]))
        records += [Record(cell, f"{name}_at_{step}", curve[step]) for step in between]
        records.append(Record(cell, f"{name}_after", curve[last]))
    records += [
        Record(cell, f"grad_norm {layer}", norm, reason="in the first step")
        for layer, norm in run.slopes.items()
    ]
    if run.step:
        time = run.step
        records.append(Record(cell, "step_time", time.value, "s", time.low, time.high, time.n))
        rates = (app.items / time.value, app.items / time.high, app.items / time.low)
        records.append(Record(cell, f"{app.unit}_per_second", rates[0], "1/s", *rates[1:], time.n))
    if run.ratio:
        ratio = run.ratio
        records.append(Record(cell, "time_ratio", ratio.value, "", ratio.low, ratio.high, ratio.n))
    records.append(Record(cell, "peak_bytes", float(run.peak), "bytes"))
    return records


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "Inside BERT, GPT-2, ViT, CLIP, detectors, UNITER and Llama: what it learns, and costs.",
        plan,
        measure,
        metrics=METRICS,
        on_request=True,
    )
