"""What a check finds, and the subject that it is put to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Forward, Variant
from bakeoff.suites.budget import Oracle
from bakeoff.suites.errors import Errors
from bakeoff.suites.grids import positions
from bakeoff.suites.product import usual_heads
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.tensors import Arguments, arguments_for, dtype_of, unit_roundoff, why_not

__all__ = [
    "ATTENTION",
    "FEATURES",
    "ON_GRID",
    "Check",
    "Subject",
    "Unsupported",
    "Verdict",
    "agreement",
    "brief",
    "largest_of",
    "record_of",
    "right_if",
    "status_of",
    "usual_pattern",
]

#: Small sizes at which checks are run: a prime length, and neither a power of two.
ATTENTION = Shape(batch=2, heads=2, kv_heads=2, q_len=37, k_len=37, head_dim=16, value_dim=16)
FEATURES = FeatureShape(batch=2, seq_len=37, features=24)
#: The same over a grid: both sides prime, as few windows divide.
ON_GRID = replace(ATTENTION, q_len=35, k_len=35, grid=((5, 7),))


class Unsupported(Exception):  # noqa: N818 - not an error: an answer
    """The subject declares that it can't do what a check asks; the message is the reason."""


@dataclass(frozen=True)
class Verdict:
    """What came out of a check: a status, a number where there is one, and why."""

    status: Status
    value: float | None = None
    reason: str = ""


Check = Callable[["Subject"], Verdict]


@dataclass(frozen=True)
class Subject:
    """One forward of a variant, to be put to checks in one dtype on one device.

    Args:
        variant: The variant.
        name: Of the forward.
        dtype: Name of a torch dtype.
        device: Name of a device.
        seed: Of what is drawn.
        grid: Whether keys and values come from a grid.
    """

    variant: Variant
    name: str
    dtype: str = "float32"
    device: str = "cpu"
    seed: int = 0
    grid: bool = False

    @property
    def forward(self) -> Forward:
        """The forward that is checked."""
        return self.variant.forward(self.name)

    @property
    def is_attention(self) -> bool:
        """Whether it has queries, keys and values."""
        return self.variant.kind == "attention"

    def case(self, pattern: str = "", direction: str = "forward", **sizes: Any) -> Case:
        """A small case, with some sizes changed; without a pattern, the usual one.

        A number of keys that fills no grid is rounded up to one that does, and for ``self`` the
        queries follow.

        Raises:
            Unsupported: Where the forward can't run it.
        """
        shape: Shape | FeatureShape
        if self.is_attention:
            pattern = pattern or usual_pattern(self.variant)
            shape = _on_grid(pattern, **sizes) if self.grid else replace(ATTENTION, **sizes)
            shape = usual_heads(self.variant, shape)
        else:
            shape = replace(FEATURES, **sizes)
        case = Case(
            kind=self.variant.kind,
            shape=shape,
            pattern=pattern if self.is_attention else None,
            options=self.variant.options,
            dtype=self.dtype,
            device=self.device,
            direction=direction,
            seed=self.seed,
        )
        reason = why_not(self.variant, self.name, case)
        if reason:
            raise Unsupported(reason)
        return case

    def arguments(self, pattern: str = "", direction: str = "forward", **sizes: Any) -> Arguments:
        """The arguments of a call on such a case."""
        return arguments_for(self.variant, self.case(pattern, direction, **sizes))

    def output(self, arguments: Arguments) -> torch.Tensor:
        """What the forward returns, without a graph."""
        with torch.no_grad():
            return arguments.call(self.forward.fn)

    def slack(self, like: torch.Tensor) -> float:
        """How far two evaluations of the same value may differ because of the order of sums.

        The bound for a sum of n terms, 2·n·u·max, with n the longest sum in these small cases.
        """
        size = ATTENTION.k_len + ATTENTION.head_dim if self.is_attention else FEATURES.features
        largest = float(like.abs().max()) if like.numel() else 0.0
        return 2 * size * unit_roundoff(dtype_of(self.dtype)) * largest


def _on_grid(pattern: str, **sizes: Any) -> Shape:
    grid = ON_GRID.grid
    if "k_len" in sizes:
        height = math.isqrt(sizes["k_len"])
        grid = ((height, math.ceil(sizes["k_len"] / height)),)
    assert grid is not None
    keys = positions(grid)
    queries = keys if pattern == "self" else sizes.get("q_len", keys)
    return replace(ON_GRID, **{**sizes, "q_len": queries, "k_len": keys, "grid": grid})


def usual_pattern(variant: Variant) -> str:
    """The pattern of a check that needs none in particular: self, or the first that is allowed."""
    allowed = variant.declared("patterns") or ("self",)
    return "self" if "self" in allowed else str(allowed[0])


def agreement(oracle: Oracle, name: str, worst: Errors, where: str = "") -> Verdict:
    """Whether a forward agrees with an oracle; a reference that loses its result judges nothing.

    Args:
        oracle: Of the case.
        name: Of the forward.
        worst: The worst errors that ``oracle`` finds in it.
        where: The case in words, put before the reason.
    """
    where = f"{where}: " if where else ""
    if name == "reference" and not (loss := oracle.reference_loss()).is_tolerable:
        return Verdict(Status.UNDETERMINED, reason=where + loss.explain())
    value = worst.ratio if worst.finite and worst.budget > 0 else None
    return right_if(worst.right, where + worst.explain(), value)


def right_if(holds: bool, reason: str, value: float | None = None) -> Verdict:
    """Ok where it holds, else wrong for this reason."""
    return Verdict(Status.OK, value) if holds else Verdict(Status.WRONG, value, reason)


def record_of(cell: Cell, metric: str, check: Callable[[], Verdict]) -> Record:
    """Run one check and make a record of what came out; an exception is a record too."""
    try:
        verdict = check()
    except Unsupported as answer:
        verdict = Verdict(Status.UNSUPPORTED, reason=str(answer))
    except Exception as error:
        verdict = Verdict(status_of(error), reason=brief(error))
    return Record(cell, metric, verdict.value, status=verdict.status, reason=verdict.reason)


def brief(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


def status_of(error: BaseException) -> Status:
    """What an exception means for a cell; torch reports a failed allocation in words."""
    text = str(error).lower()
    memory = any(words in text for words in ("out of memory", "can't allocate memory"))
    return Status.OOM if memory or isinstance(error, MemoryError) else Status.FAILED


def largest_of(tensor: torch.Tensor) -> float:
    """The largest absolute value; a NaN counts as infinitely large."""
    if not tensor.numel():
        return 0.0
    return float(tensor.abs().nan_to_num(nan=torch.inf).max())
