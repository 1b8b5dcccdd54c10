"""Probes of what a call must not owe to the calls before it, nor leave to those after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bakeoff.suites.alike import quantities_of, unlike
from bakeoff.suites.budget import Oracle, Quantities, gradients_of, output_of
from bakeoff.suites.fresh_values import FreshValues
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments, arguments_for
from bakeoff.suites.verdicts import Subject, Verdict, largest_of

__all__ = ["computed_at_return", "fresh_values", "many_calls", "outputs_kept"]

#: Calls in a row: more than a fault would wait for that wants to be missed by a few.
CALLS = 128
#: Outputs that are held while others are computed: buffers may be written again in turn.
HELD = 8
#: Seconds after its return in which a call must not go on.
AFTERWARDS = 0.02


def fresh_values(subject: Subject) -> Verdict:
    """New values in the same tensors give the output of these values, however they were written."""
    for mode in _modes(subject):
        arguments = mode.prepare(subject.arguments())
        before = _copy(mode.run(subject, arguments))  # an output may be a view of an input
        for how, write in _WAYS.items():
            write(arguments)
            found = mode.run(subject, arguments)
            told = f"new values {how}, {mode.name}"
            if verdict := _unlike_copies(subject, mode, arguments, found, told):
                return verdict
            if how != _ONE and torch.equal(found["output"], before["output"]):
                return Verdict(Status.WRONG, 0.0, f"{told}: the output is that of the old ones")
            before = _copy(found)
        shorter = mode.prepare(subject.arguments("", **_length(subject, 29)))
        shorter = _in_the_place_of(arguments, shorter)
        found = mode.run(subject, shorter)
        told = f"another length at the same place, {mode.name}"
        if verdict := _unlike_copies(subject, mode, shorter, found, told):
            return verdict

    def rearranged(arguments: Arguments, seed: int) -> Arguments:
        base = subject.arguments()
        FreshValues(seed).renew(base.leaves().values())
        return base

    return _as_the_reference(subject, rearranged)


def outputs_kept(subject: Subject) -> Verdict:
    """What a call returned stays as it was while others run, and so does its graph."""
    for mode in _modes(subject):
        held, copies = [], []
        for seed in range(HELD):
            held.append(mode.run(subject, mode.prepare(_drawn(subject, seed))))
            copies.append(_copy(held[-1]))
        for found, copy in zip(held, copies, strict=True):
            for name, tensor in found.items():
                if not torch.equal(tensor.nan_to_num(), copy[name].nan_to_num()):
                    change = largest_of(tensor - copy[name])
                    reason = f"{_what(name)} changes by {change:.3g} when other calls follow"
                    return Verdict(Status.WRONG, change, f"{reason}, {mode.name}")
    return _graphs_kept(subject) if subject.forward.backward else Verdict(Status.OK)


def many_calls(subject: Subject) -> Verdict:
    """A call is as right as the first, however many there were before."""
    case, mode = subject.case("", **_length(subject, 5)), _modes(subject)[-1]
    draws = [arguments_for(subject.variant, case, seed=seed) for seed in range(2)]
    draws = [mode.prepare(arguments) for arguments in draws]
    first = [_copy(mode.run(subject, arguments)) for arguments in draws]
    for call in range(2, CALLS):
        found, before = mode.run(subject, draws[call % 2]), first[call % 2]
        if verdict := unlike(subject, found, before, f"call {call + 1} of the same inputs"):
            return verdict
    if torch.equal(first[0]["output"], first[1]["output"]):
        return Verdict(Status.WRONG, 0.0, "the output is the same for other inputs")
    return _as_the_reference(subject, lambda arguments, seed: arguments)


def computed_at_return(subject: Subject) -> Verdict:
    """What is returned is a plain tensor, and holds its numbers when the call returns."""
    case = subject.case("", **_length(subject, 257))
    for seed in range(3):  # what lies in memory from the call before is not right for the next
        output = subject.output(arguments_for(subject.variant, case, seed=seed))
        if type(output) not in (torch.Tensor, nn.Parameter):
            return Verdict(Status.WRONG, reason=f"it returns a {type(output).__qualname__}")
        if output.layout != torch.strided:
            return Verdict(Status.WRONG, reason=f"the output's layout is {output.layout}")
        copy = output.clone()  # in the same stream, which waits for no other
        time.sleep(AFTERWARDS)
        if output.is_cuda:
            torch.cuda.synchronize(output.device)
        if not torch.equal(output.nan_to_num(), copy.nan_to_num()):
            change = largest_of(output - copy)
            reason = f"the output changes by {change:.3g} after the call has returned"
            return Verdict(Status.WRONG, change, reason)
    return Verdict(Status.OK)


@dataclass(frozen=True)
class _Mode:
    """A way to call a forward.

    Args:
        name: In words.
        around: The context of the call.
        backward: Whether gradients are wanted, and taken.
    """

    name: str
    around: Callable[[], AbstractContextManager[object]]
    backward: bool = False

    def prepare(self, arguments: Arguments) -> Arguments:
        """Copies of the arguments, leaves where gradients are wanted."""
        return arguments.requiring_grad() if self.backward else arguments.map(torch.Tensor.clone)

    def run(self, subject: Subject, arguments: Arguments) -> Quantities:
        """The output, and the gradients where they are wanted."""
        with self.around():
            output = arguments.call(subject.forward.fn)
            return quantities_of(output, arguments, subject.seed)


def _modes(subject: Subject) -> tuple[_Mode, ...]:
    modes = (
        _Mode("without a gradient", torch.no_grad),
        _Mode("in inference mode", torch.inference_mode),
        _Mode("with a gradient", torch.enable_grad, backward=True),
    )
    return modes if subject.forward.backward else modes[:2]


_ONE = "in one element"


def _write_in_place(arguments: Arguments) -> None:
    with torch.no_grad():
        for leaf in arguments.leaves().values():
            leaf.copy_(leaf.flip(tuple(range(leaf.dim()))))


def _write_one(arguments: Arguments) -> None:
    for tensor in arguments.data.values():
        flat = tensor.data.view(-1)
        flat[flat.numel() // 2] = -flat[flat.numel() // 2] - 1


_WAYS: Mapping[str, Callable[[Arguments], None]] = {
    "behind the same pointers": lambda arguments: FreshValues().settle(arguments.leaves().values()),
    "in place": _write_in_place,
    _ONE: _write_one,
}


def _in_the_place_of(longer: Arguments, shorter: Arguments) -> Arguments:
    """Arguments of fewer positions, laid at the beginning of what the others occupy."""
    laid = {}
    for name, tensor in shorter.leaves().items():
        place = longer.leaves()[name].data.view(-1)[: tensor.numel()].view(tensor.shape)
        laid[name] = place.copy_(tensor.detach()).requires_grad_(tensor.requires_grad)
    return shorter.replacing(laid)


def _length(subject: Subject, n: int) -> dict[str, Any]:
    return {"q_len": n, "k_len": n} if subject.is_attention else {"seq_len": n}


def _unlike_copies(
    subject: Subject, mode: _Mode, arguments: Arguments, found: Quantities, told: str
) -> Verdict | None:
    """What is wrong, if what was found is not what copies of the arguments give."""
    expected = mode.run(subject, mode.prepare(arguments))
    return unlike(subject, found, expected, f"{told}: beside copies of the inputs")


def _as_the_reference(subject: Subject, prepare: Callable[[Arguments, int], Arguments]) -> Verdict:
    """Whether outputs and gradients are those of the reference, which has itself alone."""
    if subject.name == "reference":
        return Verdict(Status.OK)
    for measure in (output_of, gradients_of) if subject.forward.backward else (output_of,):
        oracle = Oracle(subject.variant, subject.case(), measure, prepare)
        errors = oracle.judge(subject.forward.fn)[0]
        if not errors.right:
            return Verdict(Status.WRONG, errors.largest, errors.explain())
    return Verdict(Status.OK)


def _graphs_kept(subject: Subject) -> Verdict:
    """Several forwards, and only then their backwards."""
    draws = [_drawn(subject, seed).requiring_grad() for seed in range(3)]
    outputs = [arguments.call(subject.forward.fn) for arguments in draws]
    for arguments, output in zip(draws, outputs, strict=True):
        found = quantities_of(output, arguments, subject.seed)
        alone = arguments.requiring_grad()
        expected = quantities_of(alone.call(subject.forward.fn), alone, subject.seed)
        told = "with other forwards between it and its backward"
        if verdict := unlike(subject, found, expected, told):
            return verdict
    return Verdict(Status.OK)


def _drawn(subject: Subject, seed: int) -> Arguments:
    return arguments_for(subject.variant, subject.case(), seed=seed)


def _copy(found: Quantities) -> Quantities:
    return {name: tensor.clone() for name, tensor in found.items()}


def _what(name: str) -> str:
    return "the output" if name == "output" else f"the gradient of {name}"
