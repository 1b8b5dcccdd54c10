"""What belongs to the whole process and not to a plugin: noticed where one changes it."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bakeoff.registry.errors import BakeoffError

__all__ = ["GlobalState", "GlobalStateError", "guarded"]


class GlobalStateError(BakeoffError):
    """A plugin changed what belongs to the whole process; the message says what."""


@dataclass(frozen=True)
class GlobalState:
    """Signal handlers, threads, and the settings of torch that every operation obeys.

    Args:
        handlers: By signal.
        threads: Those that run Python, but for what torch starts once where it compiles.
        settings: What can be set in torch, by name.
        random: The states of the global generators of torch, Python and numpy, by name.

    Example:
        >>> import torch
        >>> before = GlobalState.now()
        >>> torch.set_default_dtype(torch.float64)
        >>> before.changes()
        ['torch.get_default_dtype() from torch.float32 to torch.float64']
        >>> before.restore()
        >>> before.changes()
        []
    """

    handlers: Mapping[int, Any]
    threads: frozenset[threading.Thread]
    settings: Mapping[str, Any]
    random: Mapping[str, Any]

    @classmethod
    def now(cls) -> GlobalState:
        """As it is."""
        import torch

        return cls(
            {number: signal.getsignal(number) for number in signal.valid_signals()},
            frozenset(t for t in threading.enumerate() if not _compiles(t)),
            {
                "torch.get_default_dtype()": torch.get_default_dtype(),
                "torch.get_default_device()": torch.get_default_device(),
                "torch.get_num_threads()": torch.get_num_threads(),
                "torch.is_grad_enabled()": torch.is_grad_enabled(),
                "torch.is_inference_mode_enabled()": torch.is_inference_mode_enabled(),
                "torch.is_anomaly_enabled()": torch.is_anomaly_enabled(),
                "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
                "torch's deterministic algorithms": _deterministic(),
            },
            {
                "torch's global random generator": torch.get_rng_state(),
                "Python's global random generator": random.getstate(),
                "numpy's global random generator": _of_numpy(),
            },
        )

    def changes(self) -> list[str]:
        """What differs by now, in words."""
        now = self.now()
        told = [
            f"{name} from {value} to {now.settings[name]}"
            for name, value in self.settings.items()
            if now.settings[name] != value
        ]
        for name, state in self.random.items():
            if not _same(now.random[name], state):
                told.append(f"the state of {name}")
        for number, handler in self.handlers.items():
            if now.handlers[number] is not handler and now.handlers[number] != handler:
                told.append(f"the handler of {signal.Signals(number).name}")
        if started := now.threads - self.threads:
            names = ", ".join(sorted(thread.name for thread in started))
            told.append(f"the threads that run: it started {names}")
        return told

    def restore(self) -> None:
        """Set everything as it was, but for threads, which can't be stopped."""
        import torch

        settings = self.settings
        torch.set_default_dtype(settings["torch.get_default_dtype()"])
        if torch.get_default_device() != settings["torch.get_default_device()"]:
            torch.set_default_device(settings["torch.get_default_device()"])
        torch.set_num_threads(settings["torch.get_num_threads()"])
        torch.set_grad_enabled(settings["torch.is_grad_enabled()"])
        torch.set_anomaly_enabled(settings["torch.is_anomaly_enabled()"])
        torch.set_float32_matmul_precision(settings["torch.get_float32_matmul_precision()"])
        on, warn_only = settings["torch's deterministic algorithms"]
        torch.use_deterministic_algorithms(on, warn_only=warn_only)
        torch.set_rng_state(self.random["torch's global random generator"])
        random.setstate(self.random["Python's global random generator"])
        if self.random["numpy's global random generator"] is not None:
            sys.modules["numpy"].random.set_state(self.random["numpy's global random generator"])
        for number, handler in self.handlers.items():
            if signal.getsignal(number) != handler and handler is not None:
                # Only the main thread may, and SIGKILL's can't be set by anyone.
                with suppress(ValueError, OSError):
                    signal.signal(number, handler)


@contextmanager
def guarded(label: str) -> Iterator[None]:
    """Set everything back as it was, and tell what a call changed.

    Raises:
        GlobalStateError: Where something was changed.
    """
    before, cause = GlobalState.now(), None
    try:
        yield
    except Exception as error:
        cause = error  # of which the change is the likelier reason
    if changes := before.changes():
        before.restore()
        raise GlobalStateError(
            f"a call of {label} changes what belongs to the whole process: {'; '.join(changes)}. "
            "A forward is a pure function: let it take what it needs as an argument (noise, "
            "options) and leave the rest alone"
        ) from cause
    if cause:
        raise cause


def _compiles(thread: threading.Thread) -> bool:
    """Whether it belongs to torch, or to the progress bar of its compiler."""
    target = getattr(thread, "_target", None) or type(thread)
    return str(getattr(target, "__module__", "")).split(".")[0] in ("torch", "tqdm")


def _of_numpy() -> Any:
    """The state of its legacy generator, as plain values; None where it is not imported."""
    numpy = sys.modules.get("numpy.random")
    return None if numpy is None else numpy.get_state()


def _same(one: Any, other: Any) -> bool:
    """Whether two states are the same; one that was not there before was not changed."""
    if one is None or other is None:
        return True
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool((one == other).all()) if hasattr(one, "all") else bool(one == other)


def _deterministic() -> tuple[bool, bool]:
    import torch

    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
