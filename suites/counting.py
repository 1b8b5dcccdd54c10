"""Counts what a call does without doing it: operations, bytes moved, and the peak of memory."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    bmm_flop,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.tensors import Arguments, arguments_for

__all__ = ["Count", "available_bytes", "counted", "will_not_fit"]

#: A forward that keeps this many vectors for each pair of positions still fits: no prediction.
SAFE_VECTORS = 4


@dataclass(frozen=True)
class Count:
    """What one call did.

    Args:
        flops: Floating-point operations of its matrix products, two a multiply-add.
        moved_bytes: Bytes that its operations read and wrote, each operation by itself: at least
            what any fused kernel must move.
        peak_bytes: The most that was held at once above the arguments, but for scratch memory
            within kernels.
        largest_bytes: The largest tensor that it made, as it lies in memory: views make none.
    """

    flops: float
    moved_bytes: float
    peak_bytes: int
    largest_bytes: int


def counted(variant: Variant, forward: str, case: Case) -> Count:
    """Count one call of the direction of ``case`` on fake tensors: nothing is allocated.

    Raises:
        Exception: Whatever the forward raises on tensors that hold no numbers, as where it reads
            a value of one.
    """
    arguments = arguments_for(variant, case)
    fn = variant.forward(forward).fn
    # Outside of the mode: a dispatch mode must never meet a compiled function.
    with FakeTensorMode() as fake:
        arguments = arguments.replacing(
            {name: fake.from_tensor(tensor) for name, tensor in arguments.tensors()}
        )
        call = _directed(arguments, fn, case.direction)
        counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)
        counter.mod_tracker = _NoModules()  # type: ignore[assignment]
        try:
            with _Memory() as memory, counter as flops:
                held = call()
            del held
        except Exception:
            if "torch._dynamo" in sys.modules:  # what it traced just now fails from then on
                torch.compiler.reset()
            raise
    return Count(float(flops.get_total_flops()), float(memory.moved), memory.peak, memory.largest)


def will_not_fit(variant: Variant, forward: str, case: Case) -> str | None:
    """Why a call cannot fit in memory; None where it may."""
    limit = available_bytes(case.device)
    if not limit or _generous(case) < limit:
        return None
    try:
        peak = counted(variant, forward, case).peak_bytes
    except Exception:
        return None  # what can't be predicted is tried, within the limit on memory
    if peak <= limit:
        return None
    return (
        f"predicted, not tried: it would hold {peak / 2**30:.1f} GiB at once, "
        f"{limit / 2**30:.1f} GiB are allowed"
    )


def available_bytes(device: str) -> int:
    """Bytes that a job may allocate; 0 where that is not known."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        import resource
    except ImportError:
        return 0
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return 0 if limit == resource.RLIM_INFINITY else limit


def _directed(
    arguments: Arguments, fn: Callable[..., torch.Tensor], direction: str
) -> Callable[[], object]:
    if direction == "forward":

        def forward() -> object:
            with torch.no_grad():
                return arguments.call(fn)

        return forward
    leaves = arguments.requiring_grad()
    with torch.no_grad():  # the gradient that reaches the output belongs to the arguments
        signs = torch.ones_like(leaves.call(fn))

    def training() -> object:
        inputs = list(leaves.leaves().values())
        return torch.autograd.grad(leaves.call(fn), inputs, signs, allow_unused=True)

    return training


class _NoModules:
    """In place of what follows modules: its hooks fail where a forward calls one in a backward."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage from the operation that makes it to its release."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.moved = self.largest = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(_storages((args, kwargs)))
        for storage in given:
            self._known.add(storage)  # an argument was there before
        out = func(*args, **(kwargs or {}))
        made = [storage for storage in _storages(out) if storage not in self._known]
        if made or not func.is_view:
            touched = {id(storage): storage for storage in (*given, *made)}
            self.moved += sum(storage.nbytes() for storage in touched.values())
        for storage in made:
            self._known.add(storage)
            self.live += storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
            weakref.finalize(storage, self._released, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _released(self, size: int) -> None:
        self.live -= size


def _storages(values: Any) -> Iterator[Any]:
    seen = set()
    for value in tree_leaves(values):
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            if id(storage) not in seen:
                seen.add(id(storage))
                yield storage


def _sdpa_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """torch counts its fused attention on a GPU, and not on the CPU."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _sdpa_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    """Likewise of its backward."""
    count = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return int(count)


def _product_flops(one: Any, other: Any, *_: Any, **__: Any) -> int:
    """torch counts products of two matrices, and not those with a vector."""
    return int(2 * prod(one) * prod(other[1:]))


def _added_product_flops(_: Any, one: Any, other: Any, **__: Any) -> int:
    """torch counts a product that is added to something, and not one that is added in place."""
    return _product_flops(one, other)


def _added_products_flops(_: Any, one: Any, other: Any, **__: Any) -> int:
    """Likewise of a batch of matrices."""
    return int(bmm_flop(one, other))


_UNCOUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _sdpa_backward_flops,
    **dict.fromkeys((torch.ops.aten.mv, torch.ops.aten.dot, torch.ops.aten.vdot), _product_flops),
    **dict.fromkeys(
        (torch.ops.aten.addmv, torch.ops.aten.addmv_, torch.ops.aten.addmm_), _added_product_flops
    ),
    **dict.fromkeys(
        (torch.ops.aten.addbmm, torch.ops.aten.addbmm_, torch.ops.aten.baddbmm_),
        _added_products_flops,
    ),
}


def _generous(case: Case) -> float:
    """Bytes of a few vectors for each pair of positions, or of many rows."""
    shape = case.shape
    if isinstance(shape, Shape):
        pairs = shape.batch * shape.heads * shape.q_len * shape.k_len
        return SAFE_VECTORS * 8.0 * pairs * max(shape.head_dim, shape.value_dim)
    return SAFE_VECTORS * 64.0 * case.elements
