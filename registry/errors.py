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
    "brief",
    "did_you_mean",
    "shown",
    "typed",
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
    text = name if isinstance(name, str) else shown(name)
    close = difflib.get_close_matches(text, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    some = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
    return f"known: {some}" if names else "none is known"


def shown(value: object, width: int = 80) -> str:
    """What an error shows of a value that was got: its repr, cut, which never raises.

    Example:
        >>> shown(list(range(1000)), 16)
        '[0, 1, 2, 3, 4,…'
    """
    try:
        text = repr(value)
    except Exception:  # the repr belongs to whoever gave the value
        text = f"<{type(value).__name__} without a repr>"
    return text if len(text) <= width else text[: width - 1] + "…"


def typed(value: object) -> str:
    """What an error shows of a value whose type matters.

    Example:
        >>> typed(3)
        '3 (int)'
    """
    return f"{shown(value)} ({type(value).__name__})"


def brief(error: BaseException) -> str:
    """An exception in a line or so: its type and its message.

    Example:
        >>> brief(ValueError("no such size"))
        'ValueError: no such size'
    """
    try:
        text = str(error)
    except Exception:  # likewise
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
