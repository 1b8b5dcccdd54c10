"""Errors that say what was wrong, what was got, what was expected and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BakeoffError",
    "InvalidVariantError",
    "UnknownNameError",
    "UnsupportedError",
    "UsageError",
    "did_you_mean",
]


class BakeoffError(Exception):
    """The base of every error that bakeoff raises on purpose."""


class UsageError(BakeoffError, ValueError):
    """An argument or a flag has a value that cannot be used."""


class UnknownNameError(BakeoffError, KeyError):
    """A name that is not known; the message suggests the nearest known one."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0]) if self.args else ""


class InvalidVariantError(BakeoffError, ValueError):
    """A variant breaks the contract; the message names the field, what was got and expected."""


class UnsupportedError(BakeoffError, RuntimeError):
    """A forward cannot run the given case; the message is the reason."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a hint to append to an error about an unknown name.

    Example:
        >>> did_you_mean("relo", ["relu", "gelu", "tanh"])
        'did you mean relu?'
        >>> did_you_mean("q", ["relu", "tanh"])
        'known: relu, tanh'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
    return f"known: {shown}" if names else "none is known"
