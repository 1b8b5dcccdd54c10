"""Accuracy: errors against the float64 reference, identities, probes and declared properties."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import FeatureShape, Shape
from bakeoff.registry.variants import Activation, Variant
from bakeoff.suites.budget import Oracle
from bakeoff.suites.covered import covering, covering_gradient, records_of
from bakeoff.suites.covering import array_of, case_of, extra_of
from bakeoff.suites.curves import curves_of
from bakeoff.suites.identities import holds
from bakeoff.suites.independence import unless_dependent
from bakeoff.suites.laws import LAWS
from bakeoff.suites.layouts import random_mask
from bakeoff.suites.maps import MAPPED, PLAIN, attention_map
from bakeoff.suites.metrics import Metric, checks
from bakeoff.suites.probes import PROBES, probes_of
from bakeoff.suites.product import expand, usual_heads
from bakeoff.suites.properties import MEASURES, measured
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.recurrences import RECURRENCE_CHECKS
from bakeoff.suites.selection import Selection
from bakeoff.suites.spec import Job, Suite
from bakeoff.suites.tensors import Arguments, arguments_for, why_not
from bakeoff.suites.verdicts import (
    ATTENTION,
    FEATURES,
    ON_GRID,
    Subject,
    Unsupported,
    Verdict,
    agreement,
    brief,
    record_of,
    status_of,
)

NAME, VERSION = "accuracy", 4
#: Into how many jobs the rows of a covering array are dealt.
COVERING_JOBS = 4


METRICS = {
    "max_abs_error": Metric("The largest error against the float64 reference; not judged."),
    "rms_error": Metric("The RMS error against the float64 reference, over 8 seeds."),
    "error_ratio": Metric(
        "The RMS error in units of the derived budget; at most 2 passes.",
        better="less",
        varies="rounding",
    ),
    "error_ratio_masked": Metric(
        "The same under a random mask, the finest that the forward obeys.",
        better="less",
        varies="rounding",
    ),
    "approximation_error": Metric(
        "‖o − o*‖ ÷ ‖o*‖ in float64, o* the output of what the variant approximates.",
        better="less",
        varies="rounding",
    ),
    "attended_share": Metric("The share of pairs of a query and a key with any influence."),
    "largest_slope": Metric("The largest |φ′(x)| for |x| ≤ 6; the remark holds φ, φ′ and φ″."),
    "identity": Metric("A declared identity holds, and its counterpart does not."),
    "identity_causal": Metric("The same with causal=True."),
    **checks({probe.__name__: probe for kind in PROBES.values() for probe in kind}),
    **checks({check.__name__: check for check in RECURRENCE_CHECKS}),
    **checks({check.__name__: check for check in (covering, covering_gradient, *LAWS)}),
    **checks({f"property_{name}": check for name, check in MEASURES.items()}),
}


def plan(catalog: Catalog, selection: Selection) -> Iterator[Job]:
    """One job a variant: its error cells, then its probes, identities and properties."""
    cells = expand(NAME, VERSION, catalog, selection, directions=("forward",))
    for name, group in groupby(cells, key=lambda cell: cell.variant):
        errors = [replace(cell, extra={"check": "error"}) for cell in group]
        yield Job((*errors, *_small_cells(catalog[name], errors)), untimed=True)
        yield from _covering_jobs(catalog[name], errors, selection.covering)


def _covering_jobs(variant: Variant, errors: list[Cell], dtypes: Sequence[str]) -> Iterator[Job]:
    """The rows of the covering array, all forwards at each: a few jobs, which run side by side."""
    if not dtypes:
        return
    rows = array_of(variant, dtypes).rows
    by_forward = {(like.forward, like.case.device): like for like in reversed(errors)}
    for part in range(COVERING_JOBS):
        cells = []
        for row, like in itertools.product(rows[part::COVERING_JOBS], by_forward.values()):
            case = case_of(variant, row, device=like.case.device, seed=like.case.seed)
            # With what is drawn in training, and with gradients where there are any.
            trains = variant.forward(like.forward).backward
            case = replace(case, direction="training" if trains else "forward")
            cells.append(replace(like, case=case, extra={"check": "covering", **extra_of(row)}))
        if cells:
            yield Job(tuple(cells), untimed=True)


def _small_cells(variant: Variant, errors: list[Cell]) -> Iterator[Cell]:
    """Cells of checks that choose their own small sizes.

    Identities and properties are judged in float64: in a coarse dtype a small option that is
    ignored would pass for one that is obeyed.
    """

    def cell(like: Cell, shape: Shape | FeatureShape, dtype: str, **extra: str) -> Cell:
        options = dict(variant.options)
        case = replace(like.case, shape=shape, pattern=None, options=options, inputs="normal")
        return replace(like, case=replace(case, dtype=dtype), extra=extra)

    by_forward = {like.forward: like for like in reversed(errors)}
    by_dtype = {(c.forward, c.case.dtype, c.case.device): c for c in reversed(errors)}
    for shape in _small_shapes(variant, errors):
        for like in by_dtype.values():
            yield cell(like, shape, like.case.dtype, check="contract")
        for like in by_forward.values():
            for identity in variant.identities:
                yield cell(like, shape, "float64", check="identity", identity=identity.name)
        if getattr(variant, "recurrence", None) and getattr(shape, "grid", None) is None:
            for like in by_dtype.values():
                if like.forward == "reference":
                    yield cell(like, shape, like.case.dtype, check="recurrence")
        if set(variant.metadata.properties) & set(MEASURES) and "reference" in by_forward:
            yield cell(by_forward["reference"], shape, "float64", check="properties")
    if variant.kind == "activation" and "reference" in by_forward:
        like = cell(by_forward["reference"], FEATURES, "float64", check="curves")
        yield replace(like, case=replace(like.case, device="cpu", seed=0))
    if variant.kind == "attention" and "reference" in by_forward:
        for pattern in MAPPED:
            shape = usual_heads(variant, PLAIN)
            like = cell(by_forward["reference"], shape, "float64", check="map")
            yield replace(like, case=replace(like.case, pattern=pattern, device="cpu", seed=0))


def _small_shapes(variant: Variant, errors: list[Cell]) -> list[Shape | FeatureShape]:
    """A plain one, one over a grid, or both: as the error cells have them."""
    if variant.kind != "attention":
        return [FEATURES]
    on_grid = {like.case.attention_shape.grid is not None for like in errors}
    shapes = [ON_GRID if grid else ATTENTION for grid in sorted(on_grid)]
    return [usual_heads(variant, shape) for shape in shapes]


def measure(job: Job) -> Iterator[Record]:
    """Error cells of one case share its oracle."""
    for (_, extra), group in groupby(job.cells, key=lambda c: (c.case, c.extra)):
        cells, check = list(group), extra["check"]
        if check == "error":
            yield from _errors(job, cells)
            continue
        if check == "covering":
            yield from records_of(job.catalog, cells, job.announce)
            continue
        for cell in cells:
            job.announce(cell)
            yield from _CHECKS[check](job.catalog, cell)


def _errors(job: Job, cells: list[Cell]) -> Iterator[Record]:
    variant, case = job.catalog[cells[0].variant], cells[0].case
    oracles: dict[str, Oracle] = {}
    for cell in cells:
        job.announce(cell)
        reason = why_not(variant, cell.forward, case)
        if reason:
            yield whole_cell(cell, Status.UNSUPPORTED, reason)
            continue
        try:
            if not oracles:
                oracles[""] = Oracle(variant, case)
            yield from _error_records(cell, variant, oracles[""])
        except Exception as error:
            yield whole_cell(cell, status_of(error), brief(error))
            continue
        if variant.kind == "attention":
            yield record_of(cell, "error_ratio_masked", _masked(cell, variant, oracles))
        if variant.approximates:
            target = job.catalog[variant.approximates]
            yield record_of(cell, "approximation_error", _approximation(cell, variant, target))


def _error_records(cell: Cell, variant: Variant, oracle: Oracle) -> Iterator[Record]:
    errors = oracle.judge(variant.forward(cell.forward).fn)[0]
    yield Record(cell, "max_abs_error", errors.largest if errors.finite else None)
    yield Record(cell, "rms_error", errors.rms if errors.finite else None)

    def check() -> Verdict:
        found = agreement(oracle, cell.forward, errors)
        return unless_dependent(found, variant, cell.forward, cell.case)

    yield record_of(cell, "error_ratio", check)


def _masked(cell: Cell, variant: Variant, oracles: dict[str, Oracle]) -> Callable[[], Verdict]:
    """The error with a random mask, the finest that the forward obeys."""
    forward = variant.forward(cell.forward)

    def check() -> Verdict:
        if forward.masks == "none":
            raise Unsupported("it declares that it obeys no mask")
        if forward.masks not in oracles:

            def with_mask(arguments: Arguments, seed: int) -> Arguments:
                return arguments.having(mask=random_mask(arguments, forward.masks, seed))

            oracles[forward.masks] = Oracle(variant, cell.case, prepare=with_mask)
        oracle = oracles[forward.masks]
        found = agreement(oracle, cell.forward, oracle.judge(forward.fn)[0])
        return unless_dependent(found, variant, cell.forward, cell.case, masked=True)

    return check


def _approximation(cell: Cell, variant: Variant, target: Variant) -> Callable[[], Verdict]:
    """‖o − o*‖ ÷ ‖o*‖ in float64, o* what it approximates."""

    def check() -> Verdict:
        wide = arguments_for(variant, cell.case).to(torch.float64)
        output = wide.call(variant.forward(cell.forward).fn)
        shared = {n: v for n, v in wide.plain.items() if n in target.arguments}
        exact = target.forward("reference").fn(*wide.data.values(), **shared, **target.options)
        return Verdict(Status.OK, float((output - exact).norm() / exact.norm()))

    return check


def _contract(catalog: Catalog, cell: Cell) -> Iterator[Record]:
    subject = _subject(catalog, cell)
    for probe in probes_of(subject.variant):
        yield record_of(cell, probe.__name__, partial(probe, subject))


def _recurrence(catalog: Catalog, cell: Cell) -> Iterator[Record]:
    subject = _subject(catalog, cell)
    for check in RECURRENCE_CHECKS:
        yield record_of(cell, check.__name__, partial(check, subject))


def _map(catalog: Catalog, cell: Cell) -> Iterator[Record]:
    """Who attends to whom: how many pairs do, and the map itself in the remark."""

    def check() -> Verdict:
        found = attention_map(catalog[cell.variant], str(cell.case.pattern))
        options = ", ".join(f"{name} = {value}" for name, value in found.options.items())
        remark = "/".join(found.rows) + (f" with {options}" if options else "")
        return Verdict(Status.OK, found.share, remark)

    yield record_of(cell, "attended_share", check)


def _curves(catalog: Catalog, cell: Cell) -> Iterator[Record]:
    """φ, φ′ and φ″: the largest slope, and in the remark what a picture needs."""

    def check() -> Verdict:
        variant = catalog[cell.variant]
        assert isinstance(variant, Activation)
        found = curves_of(variant)
        remark = f"x from {found.x[0]:g} to {found.x[-1]:g}: {found.digits}"
        return Verdict(Status.OK, found.largest_slope, remark)

    yield record_of(cell, "largest_slope", check)


def _properties(catalog: Catalog, cell: Cell) -> Iterator[Record]:
    subject = _subject(catalog, cell)
    for name in subject.variant.metadata.properties:
        if name in MEASURES:
            yield record_of(cell, f"property_{name}", partial(measured, subject, name))


def _subject(catalog: Catalog, cell: Cell) -> Subject:
    case = cell.case
    grid = isinstance(case.shape, Shape) and case.shape.grid is not None
    return Subject(catalog[cell.variant], cell.forward, case.dtype, case.device, case.seed, grid)


def _identity(catalog: Catalog, cell: Cell) -> Iterator[Record]:
    subject = _subject(catalog, cell)
    name = cell.extra["identity"]
    identity = next(i for i in subject.variant.identities if i.name == name)
    yield record_of(cell, "identity", partial(holds, catalog, subject, identity, "self"))
    if subject.is_attention:
        check = partial(holds, catalog, subject, identity, "causal_self")
        yield record_of(cell, "identity_causal", check)


_CHECKS = {
    "contract": _contract,
    "curves": _curves,
    "identity": _identity,
    "map": _map,
    "properties": _properties,
    "recurrence": _recurrence,
}


@hookimpl
def bakeoff_suites() -> Iterable[Suite]:
    """The suite."""
    yield Suite(
        NAME,
        VERSION,
        "Is it right: errors against the reference, identities, probes, declared properties.",
        plan,
        measure,
        metrics=METRICS,
    )
