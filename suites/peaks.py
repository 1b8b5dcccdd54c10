"""Bytes: the peak above what was live before a call, and what is kept for the backward."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["peak_bytes", "saved_bytes"]


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """The largest number of bytes that ``call`` held at once, above what was live before it.

    On the CPU from every event of torch's allocator: exact, the scratch memory of kernels
    included, and the same on every repeat. On CUDA from the allocator's own peak.
    """
    call()  # what is allocated once, by the first call, belongs to nobody
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with _quiet_stderr():
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            held = call()
        events = _allocations(profile)
    del held
    peak = live = 0
    for _, size in sorted(events):
        live += size
        peak = max(peak, live)
    return peak


def saved_bytes(call: Callable[[], torch.Tensor]) -> int:
    """Bytes that the graph of ``call`` keeps for the backward: each storage once.

    What the caller holds in any case (inputs and parameters) counts too when it is saved; what
    was saved for a part of the graph that is gone, as behind a ``detach``, does not.
    """
    saved: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> _Saved:
        # A tensor may be saved twice, and by two owners: each has a token of its own.
        token = _Saved(tensor)
        saved.add(token)
        return token

    with saved_tensors_hooks(pack, lambda token: token.tensor):
        output = call()
    storages = [token.tensor.untyped_storage() for token in saved]
    del output
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class _Saved:
    """Stands for a saved tensor in the graph, and dies with the node that saved it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.detach()  # a result of the node that saves it would keep that alive


def _allocations(profile: Any) -> list[tuple[int, int]]:
    """(time, bytes) of every allocation, and of every release as a negative number."""
    events = profile.profiler.kineto_results.events()
    return [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The profiler prints notes of its own on the file descriptor."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
