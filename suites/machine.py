"""What the machine can do: the ceilings of the roofline, and a kernel that every race runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.suites.clocks import clock_for
from bakeoff.suites.records import Cell, Record
from bakeoff.suites.statistics import median
from bakeoff.suites.store import Store
from bakeoff.suites.tensors import dtype_of

__all__ = ["MACHINE", "Rates", "Work", "machine_cells", "rate_of", "rates_in", "reference_kernel"]

#: Stands where a variant's name does; no variant can be called so.
MACHINE = "(machine)"
#: Rows of square matrices, and bytes moved by a copy: from a first-level cache to main memory.
MATMULS = {"cpu": (512, 1024), "cuda": (4096, 8192)}
COPIES = {
    "cpu": tuple(2**e for e in (15, 18, 21, 24, 27)),
    "cuda": tuple(2**e for e in (24, 27, 30)),
}
LEAST_SAMPLES, MOST_SAMPLES, SECONDS = 5, 50, 0.25
KERNEL_SIZE = 256


@dataclass(frozen=True)
class Work:
    """The least that a call must do.

    Args:
        flops: Floating-point operations of its matrix products.
        bytes: Bytes read and written.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class Rates:
    """The measured ceilings of one device in one dtype.

    Args:
        flops_per_second: Of the fastest matrix product.
        copies: Bytes moved by a copy (read and written together), and how many a second, by size:
            what fits in a cache moves faster than what does not.
    """

    flops_per_second: float
    copies: tuple[tuple[float, float], ...]

    def bandwidth(self, moved: float, *, cold: bool = False) -> float:
        """Bytes a second for a call that moves so many, between the sizes that were measured.

        With ``cold`` caches everything comes from main memory.
        """
        sizes, rates = (np.log([pair[i] for pair in sorted(self.copies)]) for i in (0, 1))
        return math.exp(rates[-1] if cold else np.interp(math.log(max(moved, 1)), sizes, rates))

    def least_seconds(self, work: Work, *, cold: bool = False) -> tuple[float, str]:
        """How long the machine needs at least, and which limit binds: compute or memory.

        Example:
            >>> rates = Rates(1e9, ((1e3, 1e9), (1e6, 1e9)))
            >>> rates.least_seconds(Work(flops=2e6, bytes=1e6))
            (0.002, 'compute')
        """
        compute = work.flops / self.flops_per_second
        memory = work.bytes / self.bandwidth(work.bytes, cold=cold)
        return (compute, "compute") if compute > memory else (memory, "memory")


def machine_cells(
    suite: str, version: int, device: str, dtype: str, threads: int
) -> Iterator[Cell]:
    """The cells in which the ceilings are measured."""
    kind = "cuda" if device.startswith("cuda") else "cpu"
    itemsize = dtype_of(dtype).itemsize
    shapes = [("matmul", FeatureShape(1, size, size)) for size in MATMULS[kind]]
    shapes += [("copy", FeatureShape(1, 1, size // itemsize // 2)) for size in COPIES[kind]]
    for forward, shape in shapes:
        case = Case(kind="machine", shape=shape, dtype=dtype, device=device, threads=threads)
        yield Cell(suite, version, MACHINE, forward, case)


def rate_of(cell: Cell) -> Record:
    """Measure one ceiling."""
    shape, dtype = cell.case.shape, dtype_of(cell.case.dtype)
    assert isinstance(shape, FeatureShape)
    generator = torch.Generator().manual_seed(cell.case.seed)
    x = torch.randn(shape.seq_len, shape.features, generator=generator)
    x = x.to(cell.case.device, dtype)
    out = torch.empty_like(x)
    if cell.forward == "matmul":
        metric, unit, work = "flops_per_second", "1/s", 2.0 * shape.features**3
        seconds = _seconds(lambda: torch.mm(x, x, out=out), cell.case.device)
    else:
        metric, unit, work = "bytes_per_second", "bytes/s", 2.0 * x.numel() * x.element_size()
        seconds = _seconds(lambda: out.copy_(x), cell.case.device)
    found = median(np.array(seconds))
    return Record(
        cell, metric, work / found.value, unit, work / found.high, work / found.low, found.n
    )


def rates_in(
    device: str, dtype: str, threads: int, store: Store, environment: str
) -> Mapping[str, Any]:
    """The ceilings that are stored, as plain settings of a job; none where any is missing."""
    where = {"variant": MACHINE, "device": device, "dtype": dtype, "threads": threads}
    found: dict[tuple[str, int], float] = {}
    for row in store.latest({**where, "environment": environment}):
        if row["value"] is not None:
            found.setdefault((row["forward"], row["features"]), row["value"])
    itemsize = dtype_of(dtype).itemsize
    flops = [rate for (name, _), rate in found.items() if name == "matmul"]
    copies = [[2 * n * itemsize, rate] for (name, n), rate in found.items() if name == "copy"]
    return {"rates": {"flops_per_second": max(flops), "copies": copies}} if flops and copies else {}


def reference_kernel(device: str) -> Callable[[], object]:
    """A product and a softmax of 256 rows in float32.

    Processes differ by a common factor in how fast they are; as a ratio to a kernel that ran in
    the same rounds, times of two runs can be compared.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(KERNEL_SIZE, KERNEL_SIZE, generator=generator).to(device)
    return lambda: torch.softmax(x @ x, -1)


def _seconds(call: Callable[[], object], device: str) -> Sequence[float]:
    """Times of single calls, after three that warm up."""
    clock = clock_for(device, cold=False)
    once = min(clock.sample(call, 1).seconds for _ in range(3))
    repeats = max(1, math.ceil(clock.least_sample / once))
    samples: list[float] = []
    end = time.monotonic() + SECONDS
    while len(samples) < LEAST_SAMPLES or (len(samples) < MOST_SAMPLES and time.monotonic() < end):
        samples.append(clock.sample(call, repeats).seconds)
    return samples
