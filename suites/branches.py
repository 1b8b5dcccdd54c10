"""What a connection does to its branch: how often it calls it, on what, and what it makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Verdict

__all__ = ["branch_called"]

#: How many draws of a stochastic connection are looked at: each may skip its branch.
DRAWS = 16
_MATTERS = (
    "a branch with dropout draws anew at each call, and one with batch norm counts its batch again"
)


def branch_called(subject: Subject) -> Verdict:
    """The branch is called once, or as often as `branch_calls` declares, on rows like x, evaluating
    and training; its output is left as it is, and a gradient passes through it.

    A stochastic connection may skip its branch in some training steps.
    """
    wanted = subject.variant.declared("branch_calls", 1)
    stochastic = subject.variant.declared("stochastic", False)
    counts: dict[str, set[int]] = {}
    for when, arguments in _cases(subject, DRAWS if stochastic else 1):
        watched = _Watched.call(subject, arguments, graph=when == "training")
        if problem := watched.problem(subject):
            return Verdict(Status.WRONG, float(watched.calls), f"{when}: {problem}")
        counts.setdefault(when, set()).add(watched.calls)
    for when, found in counts.items():
        skips = stochastic and when == "training"
        if not (found <= {0, wanted} and wanted in found if skips else found == {wanted}):
            reason = f"{when}: {_miscounted(found, wanted, subject)}"
            return Verdict(Status.WRONG, float(max(found)), reason)
    return Verdict(Status.OK, float(wanted))


def _cases(subject: Subject, draws: int) -> Iterator[tuple[str, Arguments]]:
    yield "evaluating", subject.arguments()
    if subject.forward.backward:
        for seed in range(draws):
            # Parameters off their start: a factor that begins at zero hides what it multiplies.
            own = Subject(subject.variant, subject.name, subject.dtype, subject.device, seed)
            yield "training", own.arguments(direction="training").off_start(seed).requiring_grad()


def _miscounted(found: set[int], wanted: int, subject: Subject) -> str:
    got = " or ".join(map(str, sorted(found)))
    if subject.variant.declared("branch_calls") is not None:
        return f"calls of the branch: got {got}, expected {wanted}, as declared"
    return (
        f"calls of the branch: got {got}, expected {wanted} ({_MATTERS}); where that is meant, "
        f'declare Metadata(properties={{"branch_calls": {max(found)}}})'
    )


@dataclass
class _Watched:
    """A branch that keeps what goes in and what comes out.

    Args:
        arguments: Of the call of the connection.
        seen: What went in, call by call.
        returned: What came out, with a copy of it and the version that it had.
        output: What the connection returned.
    """

    arguments: Arguments
    seen: list[torch.Tensor] = field(default_factory=list)
    returned: list[tuple[torch.Tensor, torch.Tensor, int]] = field(default_factory=list)
    output: torch.Tensor | None = None

    @classmethod
    def call(cls, subject: Subject, arguments: Arguments, *, graph: bool) -> _Watched:
        """Call the forward of the subject once."""
        watched = cls(arguments)
        with nullcontext() if graph else torch.no_grad():
            watched.output = arguments.call(subject.forward.fn, watched)
        return watched

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        self.seen.append(h)
        output = self.arguments.branch_of(h)
        self.returned.append((output, output.detach().clone(), output._version))
        return output

    @property
    def calls(self) -> int:
        return len(self.seen)

    def problem(self, subject: Subject) -> str:
        """What is wrong but for the number of calls; empty where nothing is."""
        x = self.arguments.data["x"]
        for h in self.seen:
            got, expected = (f"{tuple(t.shape)} {t.dtype} on {t.device.type}" for t in (h, x))
            if got != expected:
                return f"the branch got {got}, expected {expected}"
        for output, before, version in self.returned:
            if output._version != version or not torch.equal(output, before):
                return "the output of the branch is changed in place: it may be kept elsewhere"
        asked = x.requires_grad and subject.variant.declared("differentiable", True)
        return self._cut_off() if asked and self.seen else ""

    def _cut_off(self) -> str:
        """Where no gradient passes, in training."""
        if not all(h.requires_grad for h in self.seen):
            return "the input of the branch is detached from x: no gradient comes back through it"
        assert self.output is not None
        outputs = [output for output, *_ in self.returned]
        reached: tuple[torch.Tensor | None, ...] = (None,) * len(outputs)
        if self.output.requires_grad:
            reached = torch.autograd.grad(self.output.sum(), outputs, allow_unused=True)
        if any(gradient is None for gradient in reached):
            return "no gradient reaches the output of the branch: its parameters do not learn"
        return ""
