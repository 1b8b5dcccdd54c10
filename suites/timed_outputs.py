"""Whether what a clock times is right: outputs of timed calls, held to the float64 reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bakeoff.registry.shapes import Shape
from bakeoff.suites.budget import gradients_of, output_of
from bakeoff.suites.calls import SIGNS_SEED, Call
from bakeoff.suites.counting import will_not_fit
from bakeoff.suites.errors import LIMIT
from bakeoff.suites.fresh_values import FreshValues
from bakeoff.suites.records import TIMED_OUTPUT, Cell, Record, Status
from bakeoff.suites.tensors import dtype_of, unit_roundoff, why_not
from bakeoff.suites.verdicts import brief

__all__ = ["TimedOutputs"]

#: What is further off than so many budgets is off: how exact a forward is, is judged elsewhere.
FAR = 8.0
#: The share of elements that may be off. Of an error that passes (RMS, LIMIT budgets) no more are,
#: by Chebyshev's inequality, whatever its distribution; and a choice that jumps at a near tie moves
#: few rows. Values that changed behind a forward's back move more than that.
MOST_OFF = (LIMIT / FAR) ** 2
#: The most elements, of the scores or of x, up to which the reference is run in float64.
AFFORDABLE = 2**22


@dataclass(frozen=True)
class _Expected:
    """What a quantity should be.

    Args:
        value: Its elements; NaN where nothing is known of one.
        far: How far an element may be off.
    """

    value: torch.Tensor
    far: float

    def off(self, found: torch.Tensor | None) -> float:
        """The share of elements that are further off."""
        if found is None:  # no gradient reaches it
            found = torch.zeros_like(self.value)
        if found.shape != self.value.shape:
            return 1.0
        known = ~self.value.isnan()
        near = (found.to(torch.float64) - self.value).abs() <= self.far
        return float((known & ~near).sum()) / max(1, int(known.sum()))


@dataclass(frozen=True)
class _Oracle:
    """What is known beforehand of what a call returns.

    Args:
        expected: Of each quantity, in the order in which the call returns them.
        missing: Why nothing is known.
    """

    expected: Mapping[str, _Expected]
    missing: str = ""


@dataclass
class _Watched:
    """A call that is timed, and what is known of its outputs.

    Args:
        call: The call.
        oracle: What is known of its outputs.
        samples: How often it got new values.
        kept: What a timed call returned, and copies made as soon as the clock had stopped.
        worst: The largest share of elements that were off.
        fault: What was wrong, the first time.
    """

    call: Call
    oracle: _Oracle
    samples: int = 0
    kept: tuple[list[torch.Tensor | None], list[torch.Tensor | None]] | None = None
    worst: float = 0.0
    fault: str = ""

    @property
    def leaves(self) -> list[torch.Tensor]:
        """The tensors that get new values."""
        return list(self.call.arguments.leaves().values())

    @property
    def is_settled(self) -> bool:
        """Whether this sample runs on the values for which the outputs are known."""
        return self.samples & (self.samples - 1) == 0

    def look(self, output: object) -> None:
        """Compare what a timed call returned, if this sample is one to be compared."""
        if self.fault or not (self.is_settled or self.kept):
            return
        outputs: list[Any] = list(output) if isinstance(output, tuple) else [output]
        if strange := [type(o).__qualname__ for o in outputs if not _is_plain(o)]:
            self.fault = f"a timed call returned a {strange[0]}, expected a plain tensor"
            return
        copies = [o if o is None else o.detach().clone() for o in outputs]
        if self.is_settled and self.oracle.expected:
            self._compare(copies)
        self._look_back(copies)
        self.kept = (outputs, copies) if self.is_settled else None

    def _compare(self, copies: Sequence[torch.Tensor | None]) -> None:
        for (name, expected), copy in zip(self.oracle.expected.items(), copies, strict=True):
            off = expected.off(copy)
            self.worst = max(self.worst, off)
            if off > MOST_OFF and not self.fault:
                what = "the output" if name == "output" else f"the gradient of {name}"
                self.fault = (
                    f"{what} of a timed call is not that of its inputs: {off:.0%} of its elements "
                    f"are more than {expected.far:.3g} off"
                )

    def _look_back(self, copies: Sequence[torch.Tensor | None]) -> None:
        """What an earlier call returned must still stand, and be another than for these values."""
        if self.kept is None or self.fault:
            return
        inputs = {leaf.untyped_storage().data_ptr() for leaf in self.leaves}
        for before, copy, now in zip(*self.kept, copies, strict=True):
            if before is None or copy is None or now is None:
                continue
            is_view = before.untyped_storage().data_ptr() in inputs
            if not is_view and not _same(before, copy):
                self.fault = "what a timed call returned was written again after it had returned"
            elif self.call.direction == "forward" and not self.is_settled and _same(now, copy):
                self.fault = "a timed call returned the same for other values of its inputs"


class TimedOutputs:
    """Gives the calls of a race new values, and compares what they return.

    Before each sample the leaves of a call (data, inputs, parameters) get new values behind the
    same pointers. In some samples, of which a forward can't know, they are values for which the
    outputs were computed before the race, by the float64 reference; where that would take too long
    or too much memory, by the forward itself on copies.

    Args:
        calls: What is watched, by the name under which it takes part.
        announce: Called with the name of what runs next.
    """

    def __init__(self, calls: Mapping[str, Call], announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._values = FreshValues()
        oracles: dict[str, _Oracle] = {}
        self._watched: dict[str, _Watched] = {}
        for name, call in calls.items():
            announce(name)
            self._values.settle(call.arguments.leaves().values())
            # One oracle for all forwards of a variant, and for the baseline and its twin.
            wide = _is_affordable(call)
            of = call.variant.name if wide else call.cell.label
            key = f"{of} {replace(call.cell.case, mode='eager')}"
            if key not in oracles:
                oracles[key] = _oracle_of(call, wide=wide)
            self._watched[name] = _Watched(call, oracles[key])

    def renew(self, name: str) -> None:
        """Give the inputs of what runs next new values."""
        if (watched := self._watched.get(name)) is None:
            return  # a kernel of ours
        watched.samples += 1
        change = self._values.settle if watched.is_settled else self._values.renew
        change(watched.leaves)

    def look(self, name: str, output: object) -> None:
        """See what the last timed call returned."""
        if watched := self._watched.get(name):
            watched.look(output)

    def finish(self) -> None:
        """See a last call of each, made as all the others were."""
        for name, watched in self._watched.items():
            self._announce(name)
            watched.samples = 2 ** watched.samples.bit_length()
            self._values.settle(watched.leaves)
            watched.look(watched.call.timed(1)())

    def fault(self, name: str) -> str:
        """What was wrong with what it returned; empty where nothing was."""
        return self._watched[name].fault if name in self._watched else ""

    def record(self, name: str, cell: Cell) -> Record:
        """How far it was off, or why it is wrong."""
        watched = self._watched[name]
        if watched.fault:
            return Record(
                cell, TIMED_OUTPUT, watched.worst, status=Status.WRONG, reason=watched.fault
            )
        if not watched.oracle.expected:
            reason = f"what it should be can't be computed: {watched.oracle.missing}"
            return Record(cell, TIMED_OUTPUT, status=Status.UNSUPPORTED, reason=reason)
        return Record(cell, TIMED_OUTPUT, watched.worst)


def _is_plain(output: object) -> bool:
    """Whether it is a tensor and no subclass, which may compute when it is read; or nothing."""
    return output is None or type(output) in (torch.Tensor, nn.Parameter)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, NaN included."""
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def _is_affordable(call: Call) -> bool:
    """Whether the reference can be run in float64 on the same sizes."""
    case, shape = call.cell.case, call.cell.case.shape
    if isinstance(shape, Shape):
        size = shape.batch * shape.heads * shape.q_len * shape.k_len
    else:
        size = shape.batch * shape.seq_len * shape.features
    if size > AFFORDABLE or why_not(call.variant, "reference", case):
        return False
    wide = replace(case, dtype="float64", mode="eager")
    return will_not_fit(call.variant, "reference", wide) is None


def _oracle_of(call: Call, *, wide: bool) -> _Oracle:
    """By the reference in float64 where ``wide``; else, or where that raises, by the call itself.

    What a reference raises is for the suite ``accuracy`` to say, and no reason not to race.
    """
    missing = ""
    for is_wide in (True, False) if wide else (False,):
        try:
            return _Oracle(_expected(call, wide=is_wide))
        except Exception as error:
            missing = brief(error)
    return _Oracle({}, missing)


def _expected(call: Call, *, wide: bool) -> dict[str, _Expected]:
    forward = "reference" if wide else call.cell.forward
    fn, dtype = call.variant.forward(forward).fn, dtype_of(call.cell.case.dtype)
    measure = output_of if call.direction == "forward" else gradients_of
    copies = call.arguments.map(lambda t: t.detach().clone())
    exact_in = copies.to(torch.float64) if wide else copies
    exact = measure(fn, exact_in, SIGNS_SEED)
    moved = measure(fn, exact_in, SIGNS_SEED, unit_roundoff(dtype))
    own = measure(fn, copies, SIGNS_SEED) if wide else exact
    return {name: _near(exact[name], moved[name], own[name], dtype) for name in exact}


def _near(
    exact: torch.Tensor, moved: torch.Tensor, own: torch.Tensor, dtype: torch.dtype
) -> _Expected:
    """The budget is that of :class:`bakeoff.suites.budget.Oracle`, of one draw."""
    known = exact.isfinite() & moved.isfinite() & own.isfinite()
    rounded = exact * unit_roundoff(dtype)
    budget = _rms((own - exact)[known])
    budget += math.hypot(_rms((moved - exact)[known]), _rms(rounded[known]))
    value = exact.masked_fill(~known, torch.nan).to(dtype)
    return _Expected(value, FAR * budget)


def _rms(tensor: torch.Tensor) -> float:
    return math.sqrt(float(tensor.square().sum()) / max(1, tensor.numel()))
