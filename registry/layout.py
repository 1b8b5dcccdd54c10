"""How the rows of a matrix lie in memory, where torch's matrix products depend on it."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["pack_gradient", "pack_rows", "rows_lie_apart"]


def rows_lie_apart(matrix: torch.Tensor) -> bool:
    """Whether torch may read beyond the rows of this matrix.

    On a CPU with AMX a product in half precision takes the numbers of a row two by two. Where a row
    has an odd length and does not adjoin the next one, torch 2.13 multiplies what lies between by
    zero: NaN where that is not finite. Rows may run along either of the last two dimensions; those
    of size 1 may be folded into the ones before.

    Example:
        >>> wide = torch.zeros(8, 40, dtype=torch.bfloat16)
        >>> rows_lie_apart(wide[:, 2:39]), rows_lie_apart(wide[:, 2:38]), rows_lie_apart(wide)
        (True, False, False)
    """
    if matrix.dtype not in (torch.bfloat16, torch.float16) or matrix.device.type != "cpu":
        return False
    return _lie_apart(matrix) or _lie_apart(matrix.squeeze())


def pack_rows(matrix: torch.Tensor) -> torch.Tensor:
    """The same matrix; a copy where :func:`rows_lie_apart`, before it goes into a product.

    Example:
        >>> pack_rows(torch.zeros(8, 40, dtype=torch.bfloat16)[:, 2:39]).stride()
        (37, 1)
    """
    # Not contiguous(): it returns a single row as it is, however far the next one would lie.
    return matrix.clone(memory_format=torch.contiguous_format) if rows_lie_apart(matrix) else matrix


def pack_gradient(product: torch.Tensor) -> torch.Tensor:
    """The same tensor; its gradient is packed before it goes into the products of the backward.

    For what is transposed or cut into parts afterwards, since its gradient then lies likewise.
    """
    odd = product.shape[-1] % 2 == 1 and product.dtype in (torch.bfloat16, torch.float16)
    if not (odd and product.requires_grad):
        return product
    packed: torch.Tensor = _PackedGradient.apply(product)  # type: ignore[no-untyped-call]
    return packed


def _lie_apart(matrix: torch.Tensor) -> bool:
    if matrix.dim() < 2:
        return False
    along, across = (-1, -2) if matrix.stride(-1) == 1 else (-2, -1)
    length = matrix.shape[along]
    return length % 2 == 1 and matrix.stride(along) == 1 and matrix.stride(across) > length


class _PackedGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(product: torch.Tensor) -> torch.Tensor:
        return product.view_as(product)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, into: torch.Tensor) -> torch.Tensor:
        return pack_rows(into)
