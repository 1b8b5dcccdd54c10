"""Times one sample: calls in a row, on the CPU or a GPU, with warm or cold caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Clock", "Look", "Sample", "clock_for"]

#: A CPU sample lasts at least this long, so that the clock's own cost (some 0.1 µs) is small;
#: a GPU sample so long that the resolution of its events (0.5 µs) is.
LEAST_SAMPLE = {"cpu": 100e-6, "cuda": 1e-3}
#: Bytes that push everything else out of the caches, where their size is not known.
FLUSH_BYTES = 256 * 2**20
#: Is handed what the last timed call returned, as soon as the clock has stopped.
Look = Callable[[object], None]
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Sample:
    """What one sample came to.

    Args:
        seconds: Of one call.
        launching: The share of that in which the CPU was still handing out work to a GPU: near 1
            the GPU waited for the CPU, and the launches were timed rather than the work.
    """

    seconds: float
    launching: float = 0.0


class Clock:
    """Times calls on the CPU.

    Args:
        cold: Whether caches are emptied before each call; then a sample is one call, since the
            next in a row would find them warm.
    """

    def __init__(self, cold: bool = False) -> None:
        self.least_sample = 0.0 if cold else LEAST_SAMPLE["cpu"]
        self._flush = torch.ones(2 * _last_cache_bytes() // 4) if cold else None

    @property
    def is_cold(self) -> bool:
        """Whether caches are emptied before each call."""
        return self._flush is not None

    def sample(
        self, call: Callable[[], object], repeats: int, look: Look = lambda output: None
    ) -> Sample:
        """Time ``repeats`` calls in a row, and look at what the last of them returned."""
        if self._flush is not None:
            self._flush.add_(1.0)
        started = time.perf_counter_ns()
        output = _last_of(call, repeats)
        elapsed = time.perf_counter_ns() - started
        look(output)
        return Sample(max(1, elapsed) / repeats * 1e-9)


class CudaClock(Clock):
    """Times calls on a GPU by events in its stream.

    The second-level cache is emptied before each call where ``cold``: writing more bytes than it
    holds takes the GPU longer than the CPU needs to hand out what follows, so that the call's
    launches overlap with it.
    """

    def __init__(self, device: str, cold: bool) -> None:
        self.least_sample = LEAST_SAMPLE["cuda"]
        self.device = torch.device(device)
        properties = torch.cuda.get_device_properties(self.device)
        held = getattr(properties, "L2_cache_size", 0) or FLUSH_BYTES // 4
        self._flush = torch.empty(4 * held // 4, device=self.device) if cold else None

    def sample(
        self, call: Callable[[], object], repeats: int, look: Look = lambda output: None
    ) -> Sample:
        """Time ``repeats`` calls: in a row, or each after a flush.

        The look comes before anything is waited for: in the stream that was timed, so that what
        another stream has not computed yet is not there to be seen.
        """
        groups = [repeats] if self._flush is None else [1] * repeats
        launching, events, output = 0.0, [], None
        torch.cuda.synchronize(self.device)
        for count in groups:
            if self._flush is not None:
                self._flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            began = time.perf_counter()
            output = _last_of(call, count)
            launching += time.perf_counter() - began
            end.record()
            events.append((start, end))
        look(output)
        torch.cuda.synchronize(self.device)
        seconds = sum(start.elapsed_time(end) for start, end in events) * 1e-3
        return Sample(seconds / repeats, min(1.0, launching / max(seconds, 1e-9)))


def _last_of(call: Callable[[], object], count: int) -> object:
    """What the last of so many calls returns; the others' outputs are free for the next."""
    for _ in range(count - 1):
        call()
    return call()


def clock_for(device: str, cold: bool) -> Clock:
    """The clock of a device."""
    return CudaClock(device, cold) if device.startswith("cuda") else Clock(cold)


def _last_cache_bytes() -> int:
    """The size of the largest cache, of all cores that share it; at most FLUSH_BYTES / 2."""
    sizes = []
    for file in _CACHES.glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        number, unit = text[:-1], text[-1]
        sizes.append(int(number) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(unit, 1))
    return min(max(sizes, default=FLUSH_BYTES // 2), FLUSH_BYTES // 2)
