"""What breaks the contract, and what could not be loaded because of it."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from bakeoff.registry.errors import brief

__all__ = ["Fault", "Problem", "ProblemLog"]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One breach of the contract.

    Example:
        >>> print(Fault("metadata.title", "3 (int)", "a text"))
        metadata.title: got 3 (int), expected a text
    """

    field: str
    got: str
    expected: str
    error: BaseException | None = dataclasses.field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.field}: got {self.got}, expected {self.expected}"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why a plugin or a variant was left out.

    Args:
        origin: The plugin: a module, a file, an entry point.
        reason: What was wrong, what was got and what was expected.
        traceback: Where it was raised, if an exception was the cause.
    """

    origin: str
    reason: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class ProblemLog:
    """The problems met while loading, in order."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, origin: str, reason: object, error: BaseException | None = None) -> None:
        """Note a problem, with the traceback of the exception that caused it."""
        trace = "".join(traceback.format_exception(error)) if error else ""
        self.problems.append(Problem(origin, str(reason), trace))

    @contextmanager
    def guard(self, origin: str, what: str) -> Iterator[None]:
        """Whatever a plugin raises, sys.exit() too, becomes a problem and costs only the plugin."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.add(origin, f"{what}: {brief(error)}", error)
