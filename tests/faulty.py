"""A plugin of variants that misbehave in every way: what each does, and the row that it must get.

The tests run it, and so does the proof in docs/measuring.md.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bakeoff import Attention, Metadata, allowed_keys, hookimpl, masked_softmax

__all__ = ["FAULTS", "TIMEOUT", "Fault"]

#: Seconds without a sign of life that a run of these should allow: what does not hang must give one
#: sooner, on a busy machine too.
TIMEOUT = 6.0


@dataclass(frozen=True)
class Fault:
    """What a forward does before it computes, and the row that must come of it."""

    act: Callable[[], object]
    status: str
    reason: str


def _recurse() -> None:
    _recurse()


def _hang_with_signals_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    time.sleep(1000)


def _print_for_ever() -> None:
    while True:
        os.write(1, b"x" * 2**20)


def _overflow_the_stack() -> None:
    sys.setrecursionlimit(10**9)
    value: list[Any] = []
    for _ in range(10**5):
        value = [value]
    repr(value)


def _start_a_process() -> None:
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(5)


def _start_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), name="mine", daemon=True).start()


STATE = "changes what belongs to the whole process"
FAULTS: dict[str, Fault] = {
    "raises": Fault(lambda: {}["planted"], "failed", "KeyError: 'planted'"),
    "segfault": Fault(lambda: ctypes.string_at(0), "crashed", "killed by SIGSEGV"),
    "abort": Fault(os.abort, "crashed", "killed by SIGABRT"),
    "exit": Fault(lambda: os._exit(3), "crashed", "exited with status 3 before its end"),
    "clean_exit": Fault(lambda: os._exit(0), "crashed", "exited with status 0 before its end"),
    "sys_exit": Fault(lambda: sys.exit(3), "failed", "SystemExit: 3"),
    "hang": Fault(
        lambda: time.sleep(1000), "timeout", f"no result within {TIMEOUT:g} s, it was killed"
    ),
    "hang_holding_the_gil": Fault(
        lambda: ctypes.PyDLL(None).sleep(1000), "timeout", f"no result within {TIMEOUT:g} s"
    ),
    "hang_with_signals_blocked": Fault(
        _hang_with_signals_blocked, "timeout", f"no result within {TIMEOUT:g} s"
    ),
    "recursion": Fault(_recurse, "failed", "RecursionError"),
    "stack_overflow": Fault(_overflow_the_stack, "crashed", "killed by SIGSEGV"),
    "endless_output": Fault(_print_for_ever, "crashed", "it printed more than 64 MiB"),
    "memory": Fault(lambda: torch.empty(2**38).fill_(1), "oom", "can't allocate memory"),
    "killed": Fault(lambda: os.kill(os.getpid(), 9), "oom", "killed by the system"),
    "leaves_a_process": Fault(_start_a_process, "crashed", "exited with status 5"),
    "starts_a_thread": Fault(_start_a_thread, "failed", f"{STATE}: the threads that run"),
    "signal_handler": Fault(
        lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "failed",
        f"{STATE}: the handler of SIGTERM",
    ),
    "default_dtype": Fault(
        lambda: torch.set_default_dtype(torch.float64),
        "failed",
        f"{STATE}: torch.get_default_dtype() from torch.float32 to torch.float64",
    ),
    "threads": Fault(
        lambda: torch.set_num_threads(2), "failed", f"{STATE}: torch.get_num_threads() from 1 to 2"
    ),
    "deterministic": Fault(
        lambda: torch.use_deterministic_algorithms(True),
        "failed",
        f"{STATE}: torch's deterministic algorithms",
    ),
    "random_generator": Fault(
        lambda: torch.manual_seed(1), "failed", f"{STATE}: the state of torch's global random"
    ),
}


def _misbehaving(act: Callable[[], object]) -> Callable[..., torch.Tensor]:
    def reference(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
    ) -> torch.Tensor:
        act()
        scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v

    return reference


def _grad_mode(*tensors: torch.Tensor, **_: Any) -> torch.Tensor:
    torch.set_grad_enabled(not torch.is_grad_enabled())
    return tensors[2]


def _no_tensor(*_: torch.Tensor, **__: Any) -> Any:
    return lambda: None


#: Faults that are no act before a right answer.
OTHERS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "grad_mode": (_grad_mode, "failed", f"{STATE}: torch.is_grad_enabled()"),
    "returns_no_tensor": (_no_tensor, "failed", "TypeError: the forward returned <function"),
}


@hookimpl
def bakeoff_variants() -> Iterator[Attention]:
    """One variant a fault."""
    metadata = Metadata(
        title="Faulty",
        summary="It misbehaves.",
        formula="o",
        strengths=("none",),
        weaknesses=("it misbehaves",),
        use_when="Never.",
        tags=("soft",),
    )
    forwards = {name: _misbehaving(fault.act) for name, fault in FAULTS.items()}
    forwards |= {name: fn for name, (fn, _, _) in OTHERS.items()}
    for name, fn in forwards.items():
        yield Attention(f"faulty_{name}", forwards={"reference": fn}, metadata=metadata)
