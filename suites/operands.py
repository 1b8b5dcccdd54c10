"""Watches which matrices reach torch's matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from bakeoff.registry.layout import rows_lie_apart

__all__ = ["StridedOperands"]

#: The products that torch's own functions come down to, with the places of their matrices.
_MATRICES: Mapping[str, slice] = {
    "mm": slice(0, 2),
    "bmm": slice(0, 2),
    "mv": slice(0, 1),
    **dict.fromkeys(("addmm", "addmm_", "baddbmm", "baddbmm_", "addbmm", "addbmm_"), slice(1, 3)),
    "addmv": slice(1, 2),
    "_scaled_dot_product_flash_attention_for_cpu": slice(0, 3),
    "_scaled_dot_product_flash_attention_for_cpu_backward": slice(0, 4),
}


class StridedOperands(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, every matrix that a product is handed with its rows apart is noted.

    Args:
        found: The product, and the shape and strides of the matrix, in the order of the calls.
        products: How many products there were.

    Example:
        >>> import torch
        >>> wide = torch.zeros(8, 40, dtype=torch.bfloat16)
        >>> with StridedOperands() as seen:
        ...     product = wide[:, 2:39] @ wide[:, 2:39].mT.contiguous()
        >>> seen.products, seen.found
        (1, ['mm: (8, 37) with strides (40, 1)'])
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self.products = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Look at the matrices, then call the function as it is."""
        name = func.overloadpacket.__name__
        if name in _MATRICES:
            self.products += 1
            for matrix in args[_MATRICES[name]]:
                if rows_lie_apart(matrix):
                    layout = f"{tuple(matrix.shape)} with strides {matrix.stride()}"
                    self.found.append(f"{name}: {layout}")
        return func(*args, **(kwargs or {}))
