"""Whether a forward computes the same where torch.compile traces it."""

from __future__ import annotations

from typing import Any

from bakeoff.suites.alike import quantities_of, unlike
from bakeoff.suites.calls import compiled
from bakeoff.suites.records import Status
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, brief

__all__ = ["same_when_compiled"]


def same_when_compiled(subject: Subject) -> Verdict:
    """Traced by torch.compile, it has the same output and the same gradients."""
    if subject.dtype != "float32":
        raise Unsupported("what is traced does not depend on the dtype: see float32")
    sizes: dict[str, Any] = {"q_len": 7, "k_len": 7} if subject.is_attention else {"seq_len": 7}
    arguments = subject.arguments("", **sizes)
    if subject.forward.backward:
        arguments = arguments.requiring_grad()
    call = arguments.bind(subject.forward.fn)
    try:
        # Traced alone: a fault of Inductor's is no fault of a forward, and its seconds are many;
        # with sizes that may change, a backward of blocks takes half a minute even so.
        traced = compiled(lambda: call(), backend="eager", dynamic=False)()
    except Exception as error:
        raise Unsupported(f"torch.compile can't trace it: {brief(error)}") from error
    expected, found = (quantities_of(o, arguments, subject.seed) for o in (call(), traced))
    return unlike(subject, found, expected, "compiled") or Verdict(Status.OK)
