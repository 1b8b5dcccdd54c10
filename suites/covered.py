"""The rows of the covering array, measured: against the reference, and against the laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.variants import Variant
from bakeoff.suites.budget import Function, Oracle, Quantities, gradients_of, output_of
from bakeoff.suites.covering import words_of
from bakeoff.suites.errors import Errors
from bakeoff.suites.independence import unless_dependent
from bakeoff.suites.laws import LAWS, Instance
from bakeoff.suites.layouts import random_mask
from bakeoff.suites.records import Cell, Record, Status, whole_cell
from bakeoff.suites.tensors import Arguments, why_not
from bakeoff.suites.verdicts import (
    Unsupported,
    Verdict,
    agreement,
    brief,
    record_of,
    status_of,
)

__all__ = ["covering", "covering_gradient", "records_of"]

#: Of a parameter with fewer elements, as one temperature, a gradient is a sum over all positions of
#: which an RMS over few draws tells little; the error cells judge it.
FEWEST = 8
#: Elements of an output of which one draw tells enough; smaller ones are drawn more often, unless
#: there are as many elements in all.
ENOUGH, MANY = 2048, 2**18
_Judge = Callable[[Oracle, Sequence[Errors], str, str], Verdict]
#: From the coarsest mask to the finest.
_LEVELS = ("none", "keys", "full", "heads")


def covering(oracle: Oracle, errors: Sequence[Errors], name: str, where: str) -> Verdict:
    """At the sizes and arguments of a covering array it is the reference."""
    return agreement(oracle, name, next(e for e in errors if e.name == "output"), where)


def covering_gradient(oracle: Oracle, errors: Sequence[Errors], name: str, where: str) -> Verdict:
    """There, so are the gradients of all inputs and parameters."""
    worst = next((e for e in errors if e.name != "output"), None)
    if worst is None:
        raise Unsupported("this forward declares that it has no backward")
    return agreement(oracle, name, worst, where)


def records_of(
    catalog: Catalog, cells: Sequence[Cell], announce: Callable[[Cell], None]
) -> Iterator[Record]:
    """All forwards at one row: they share its oracles, one for each mask that they can obey."""
    variant = catalog[cells[0].variant]
    oracles: dict[tuple[str, bool], Oracle] = {}
    for cell in cells:
        announce(cell)
        if reason := why_not(variant, cell.forward, cell.case):
            yield whole_cell(cell, Status.UNSUPPORTED, reason)
            continue
        try:
            yield from _records(variant, cell, oracles)
        except UnsupportedError as answer:
            yield whole_cell(cell, Status.UNSUPPORTED, str(answer))
        except Exception as error:
            where = words_of(cell.case, cell.extra)
            yield whole_cell(cell, status_of(error), f"{where}: {brief(error)}")


def _records(
    variant: Variant, cell: Cell, oracles: dict[tuple[str, bool], Oracle]
) -> Iterator[Record]:
    forward = variant.forward(cell.forward)
    level, where = _level(variant, cell), words_of(cell.case, cell.extra)
    key = level, forward.backward
    if key not in oracles:
        oracles[key] = _oracle(variant, cell, level, forward.backward)
    oracle = oracles[key]
    errors = oracle.judge(forward.fn)
    for check in (covering, covering_gradient):

        def judge(check: _Judge = check) -> Verdict:
            found = check(oracle, errors, cell.forward, where)
            return unless_dependent(found, variant, cell.forward, cell.case, level != "none")

        yield record_of(cell, check.__name__, judge)
    if variant.kind != "attention":
        return
    instance = Instance(variant, cell.forward, cell.case, oracle.draws[0].arguments, where,
                        _relative_budget(oracle))  # fmt: skip
    for law in LAWS:
        yield record_of(cell, law.__name__, partial(law, instance))


def _oracle(variant: Variant, cell: Cell, level: str, backward: bool) -> Oracle:
    def prepare(arguments: Arguments, seed: int) -> Arguments:
        return _at_row(arguments, cell.extra, level, seed)

    measure = _everything_of if backward else output_of
    return Oracle(variant, cell.case, measure, prepare, first=_first(cell))


def _everything_of(fn: Function, arguments: Arguments, seed: int, by: float = 0.0) -> Quantities:
    """The output, without a graph, and all gradients but those of parameters of few elements."""
    few = {name for name, tensor in arguments.learned.items() if tensor.numel() < FEWEST}
    gradients = gradients_of(fn, arguments, seed, by).items()
    kept = {name: gradient for name, gradient in gradients if name not in few}
    return {**output_of(fn, arguments, seed, by), **kept}


def _at_row(arguments: Arguments, extra: Mapping[str, Any], level: str, seed: int) -> Arguments:
    """Arguments with the mask and the scale of a row, or with x in as many dimensions."""
    if "dims" in extra:
        return arguments.replacing({"x": _in_dims(arguments.data["x"], extra["dims"])})
    arguments = arguments.having(scale=extra["scale"])
    if level == "none":
        return arguments
    mask = random_mask(arguments, "keys" if level == "keys" else "full", seed)
    return arguments.having(mask=mask[:, :1] if level == "full" else mask)


def _in_dims(x: torch.Tensor, dims: int) -> torch.Tensor:
    """x (B, N, F) as (B·N, F), as it is, or as (B, 2, N/2, F)."""
    batch, length, features = x.shape
    shapes = {2: (batch * length, features), 4: (batch, 2, length // 2, features)}
    return x.reshape(shapes[dims]) if dims in shapes else x


def _level(variant: Variant, cell: Cell) -> str:
    """The mask of the row, or the finest that the forward obeys."""
    if variant.kind != "attention":
        return "none"
    obeyed = variant.forward(cell.forward).masks
    most = "heads" if obeyed == "full" else obeyed
    return min(str(cell.extra["mask"]), most, key=_LEVELS.index)


def _first(cell: Cell) -> int:
    """How many draws hold enough elements of an output, or cost as much as is worth it."""
    case = cell.case
    if case.kind != "attention":
        return math.ceil(ENOUGH / case.elements)
    shape = case.attention_shape
    rows, keys = shape.batch * shape.heads * shape.q_len, shape.batch * shape.kv_heads * shape.k_len
    size = shape.head_dim + shape.value_dim
    return math.ceil(min(ENOUGH / (rows * shape.value_dim), MANY / ((rows + keys) * size)))


def _relative_budget(oracle: Oracle) -> float:
    """The budget of the output, in units of its size."""
    exact = oracle.moments["output"].rms("exact")
    return oracle.budget("output") / exact if exact else 0.0
