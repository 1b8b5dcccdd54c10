"""What a known fault of torch is, and what comes of trying it on a device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bakeoff.suites.verdicts import brief

__all__ = ["Answer", "Diagnosis", "Fault", "State", "diagnose"]


@dataclass(frozen=True)
class Answer:
    """One number that torch gives, and the right one, which is computed without the fault.

    Args:
        got: What torch gives.
        right: What is right.
        tolerance: By how much the two may differ.
    """

    got: float
    right: float
    tolerance: float = 0.0

    @property
    def wrong(self) -> bool:
        """Whether they differ by more; NaN always does."""
        return not abs(self.got - self.right) <= self.tolerance


@dataclass(frozen=True)
class Fault:
    """A fault or trap of torch that is known, and how to see whether it is present.

    Args:
        name: lower_snake_case.
        op: The operation of torch.
        summary: What torch does, in one sentence.
        consequence: What that does to a variant or to its numbers.
        workaround: What to do about it.
        trial: Tries it on a device (``"cpu"``, ``"cuda"``).
        unit: What the numbers of its answer count or measure.
        report: Address of the public report; empty where there is none.
        devices: The devices on which it is known.
        dtypes: The dtypes in which it is known; none for all.
        checks: The checks of a certificate that it can turn wrong.
        environment: Environment variables under which a new process does not have the fault.
    """

    name: str
    op: str
    summary: str
    consequence: str
    workaround: str
    trial: Callable[[str], Answer]
    unit: str
    report: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class State(StrEnum):
    """What became of trying a fault."""

    PRESENT = "present"
    ABSENT = "absent"
    NOT_APPLICABLE = "not applicable"
    UNDETERMINED = "undetermined"  # it could not be tried


@dataclass(frozen=True)
class Diagnosis:
    """A fault on a device of this machine.

    Args:
        fault: Which.
        device: Where it was tried.
        state: What came out.
        answer: The numbers, where it could be tried.
        reason: Why not.
    """

    fault: Fault
    device: str
    state: State
    answer: Answer | None = None
    reason: str = ""


def diagnose(faults: Iterable[Fault], devices: Iterable[str]) -> list[Diagnosis]:
    """Try each fault on each of the devices, in this process.

    Example:
        >>> fault = Fault("sum", "add", "1 + 1 is 3.", "", "", lambda device: Answer(2, 2), "sum")
        >>> [str(found.state) for found in diagnose([fault], ["cpu", "meta"])]
        ['absent', 'not applicable']
    """
    places = tuple(devices)
    return [_diagnosis(fault, device) for fault in faults for device in places]


def _diagnosis(fault: Fault, device: str) -> Diagnosis:
    if device not in fault.devices:
        return Diagnosis(fault, device, State.NOT_APPLICABLE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch thinks of being tried so
            answer = fault.trial(device)
    except Exception as error:  # an operation that this version of torch does not have
        return Diagnosis(fault, device, State.UNDETERMINED, reason=brief(error))
    state = State.PRESENT if answer.wrong else State.ABSENT
    return Diagnosis(fault, device, state, answer)
