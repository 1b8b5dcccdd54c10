"""A recurrence is its variant: over a whole sequence, and wherever the sequence is split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.shapes import Case
from bakeoff.registry.variants import Attention
from bakeoff.suites.budget import Measure, Oracle, gradients_of, output_of
from bakeoff.suites.errors import Errors
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments, arguments_for
from bakeoff.suites.verdicts import Check, Subject, Unsupported, Verdict, right_if

__all__ = ["RECURRENCE_CHECKS"]

Cuts = tuple[int, ...]

#: Lengths, each with the places after which it is split: not at all, at both ends and about the
#: usual blocks of 64 and 128, and after every token.
SPLITS: tuple[tuple[int, Cuts], ...] = (
    (131, ()),
    (131, (1, 63, 65, 129, 130)),
    (37, tuple(range(1, 37))),
)


def recurrence(subject: Subject) -> Verdict:
    """Outputs are those of the causal reference."""
    return _as_reference(subject, output_of)


def recurrence_gradient(subject: Subject) -> Verdict:
    """So are the gradients of inputs and parameters, through the states that are handed on."""
    if subject.variant.declared("differentiable", True) is False:
        raise Unsupported("the variant declares that it is not differentiable")
    return _as_reference(subject, gradients_of)


def recurrence_masked(subject: Subject) -> Verdict:
    """A mask over keys is obeyed, or refused with an UnsupportedError."""
    if subject.forward.masks == "none":
        raise Unsupported("it declares that it obeys no mask")
    try:
        return _as_reference(subject, output_of, _masked)
    except UnsupportedError as answer:
        raise Unsupported(str(answer)) from answer


def recurrence_state(subject: Subject) -> Verdict:
    """The last state does not depend on the splits, and no state is changed in place."""
    if _changes_its_state(subject):
        return Verdict(Status.WRONG, reason="it changes the state that it is given in place")

    def oracle(case: Case) -> Oracle:
        return Oracle(subject.variant, case, reference=_Split.of(subject, case, ()).state)

    return _worst(subject, oracle, lambda split: split.state)


RECURRENCE_CHECKS: tuple[Check, ...] = (
    recurrence,
    recurrence_gradient,
    recurrence_masked,
    recurrence_state,
)


@dataclass(frozen=True)
class _Split:
    """A recurrence over one piece of a sequence after another, as a function like a forward.

    Args:
        step: The recurrence.
        ends: Where the pieces begin and end.
        by_token: The inputs that are split as k is.
    """

    step: Callable[..., Any]
    ends: Cuts
    by_token: frozenset[str]

    @classmethod
    def of(cls, subject: Subject, case: Case, cuts: Cuts) -> _Split:
        variant, n = subject.variant, case.attention_shape.k_len
        assert isinstance(variant, Attention)
        assert variant.recurrence is not None
        given = arguments_for(variant, case).given
        by_token = {name for name, t in given.items() if t.dim() > 2 and t.shape[2] == n}
        return cls(variant.recurrence, (0, *cuts, n), frozenset(by_token))

    def output(self, *tensors: torch.Tensor, **same: Any) -> torch.Tensor:
        """The outputs of all pieces."""
        return self._run(tensors, same)[0]

    def state(self, *tensors: torch.Tensor, **same: Any) -> torch.Tensor:
        """The numbers of the last state, in one row."""
        leaves = _tensors(self._run(tensors, same)[1])
        return torch.cat([leaf.reshape(-1).to(tensors[0].dtype) for leaf in leaves])

    def _run(
        self, tensors: tuple[torch.Tensor, ...], same: dict[str, Any]
    ) -> tuple[torch.Tensor, Any]:
        outputs, state = [], None
        mask = same.pop("mask")
        for start, end in pairwise(self.ends):
            piece = slice(start, end)
            own = {n: t[:, :, piece] if n in self.by_token else t for n, t in same.items()}
            own["mask"] = None if mask is None else mask[..., piece]
            output, state = self.step(*(x[:, :, piece] for x in tensors), state=state, **own)
            outputs.append(output)
        return torch.cat(outputs, 2), state

    def told(self) -> str:
        """The split in words."""
        cuts = self.ends[1:-1]
        if not cuts:
            return "in one piece"
        if len(cuts) == self.ends[-1] - 1:
            return "token by token"
        return f"split after {', '.join(map(str, cuts))} of {self.ends[-1]}"


def _as_reference(
    subject: Subject,
    measure: Measure,
    prepare: Callable[[Arguments, int], Arguments] = lambda arguments, seed: arguments,
) -> Verdict:
    def oracle(case: Case) -> Oracle:
        return Oracle(subject.variant, case, measure, prepare)

    return _worst(subject, oracle, lambda split: split.output)


def _worst(
    subject: Subject,
    oracle: Callable[[Case], Oracle],
    function: Callable[[_Split], Callable[..., torch.Tensor]],
) -> Verdict:
    """The worst of all splits, each against the oracle of its length."""
    oracles: dict[int, Oracle] = {}
    found: list[tuple[Errors, _Split]] = []
    for n, cuts in SPLITS:
        case = subject.case("causal_self", q_len=n, k_len=n)
        if n not in oracles:
            oracles[n] = oracle(case)
        split = _Split.of(subject, case, cuts)
        found.append((oracles[n].judge(function(split))[0], split))
    errors, split = max(found, key=lambda item: item[0].ratio)
    value = errors.ratio if errors.finite else None
    return right_if(errors.right, f"{split.told()}: {errors.explain()}", value)


def _masked(arguments: Arguments, seed: int) -> Arguments:
    """Three keys of ten are hidden, the first among them."""
    k = arguments.data["k"]
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(k.shape[0], 1, 1, k.shape[2], generator=generator) < 0.7
    mask[..., 0] = False
    return arguments.having(mask=mask.to(k.device))


def _changes_its_state(subject: Subject) -> bool:
    """Whether the numbers in a state are others after it has been used."""
    case = subject.case("causal_self")
    split = _Split.of(subject, case, (5, 17))
    changed: list[bool] = []

    def watched(*tensors: Any, state: Any = None, **same: Any) -> Any:
        before = [leaf.clone() for leaf in _tensors(state)]
        result = split.step(*tensors, state=state, **same)
        changed.extend(not torch.equal(a, b) for a, b in zip(before, _tensors(state), strict=True))
        return result

    with torch.no_grad():
        arguments_for(subject.variant, case).call(replace(split, step=watched).output)
    return any(changed)


def _tensors(state: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor)]
