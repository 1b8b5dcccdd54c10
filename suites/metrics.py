"""What a suite says of its metrics: what each means, and how two results of it are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Metric", "checks"]


@dataclass(frozen=True)
class Metric:
    """What one metric of a suite means.

    Args:
        meaning: One sentence.
        unit: As in the records; empty for a pure number.
        better: Whether ``less`` or ``more`` of it is better; empty where neither is, and then two
            results of it are compared by their status alone.
        varies: With what it varies where nothing has changed: ``launch`` (a time), ``seed`` (what
            is learnt), ``rounding`` (an error), or nothing, as what is counted.

    Example:
        >>> Metric("The most that a call holds at once.", "bytes", better="less").varies
        ''
    """

    meaning: str
    unit: str = ""
    better: Literal["", "less", "more"] = ""
    varies: Literal["", "launch", "seed", "rounding"] = ""


def checks(functions: Mapping[str, Callable[..., object]]) -> Mapping[str, Metric]:
    """The metrics of checks, by name: each is described by the docstring of its function.

    Example:
        >>> def single() -> None:
        ...     '''One position works.'''
        >>> checks({"single": single})["single"].meaning
        'One position works.'
    """
    return {
        name: Metric(" ".join((function.__doc__ or "").split("\n\n")[0].split()))
        for name, function in functions.items()
    }
