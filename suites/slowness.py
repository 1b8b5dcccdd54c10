"""How long a forward takes beside its reference: told in the certificate, and no fault."""

from __future__ import annotations

from typing import Any

import torch

from bakeoff.suites.clocks import clock_for
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import arguments_for
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict

__all__ = ["time_of_reference"]

#: Calls of each that are timed: the fastest counts, for whatever comes between makes one longer.
CALLS = 3
#: Positions: as many as the certificate's longest case for attention, and enough features that
#: numbers cost more than the call.
LONG = 521


def time_of_reference(subject: Subject) -> Verdict:
    """Its time as a multiple of that of the reference, one long call each; never a fault."""
    if subject.name == "reference":
        raise Unsupported("it is the reference")
    if subject.dtype != "float32":
        raise Unsupported("timed in float32 alone")
    sizes: dict[str, Any] = {"seq_len": LONG, "features": 256}
    if subject.is_attention:
        sizes = {"batch": 1, "q_len": LONG, "k_len": LONG}
    case = subject.case("", **sizes)
    arguments, clock = arguments_for(subject.variant, case), clock_for(subject.device, cold=False)
    seconds = []
    for fn in (subject.forward.fn, subject.variant.forward("reference").fn):
        with torch.no_grad():
            call = arguments.bind(fn)
            call()
            seconds.append(min(clock.sample(call, 1).seconds for _ in range(CALLS)))
    return Verdict(Status.OK, seconds[0] / seconds[1], f"at N = {case.seq_len}")
