"""New values behind the same pointers, written so that nothing but the values tells.

A forward that remembers what it computed asks whether it has seen its inputs before: by their
address, by torch's count of changes, or by some of their values. What is written here changes
neither an address nor that count, and turns a block in the middle of each tensor round: first and
last values, sums, norms and extremes stay as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch

__all__ = ["FreshValues"]


class FreshValues:
    """Changes tensors in place, each as often as wanted, and back.

    Args:
        seed: Of the blocks that are chosen.

    Example:
        >>> x = torch.arange(8.0)
        >>> FreshValues().settle([x])
        >>> x, x._version
        (tensor([0., 1., 2., 4., 3., 5., 6., 7.]), 0)
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._turned: dict[int, _Turned] = {}

    def renew(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give each new values: a block of an eighth to a quarter, within the middle half."""
        for tensor in tensors:
            size = tensor.numel()
            length = self._random.randint(max(2, size // 8), max(2, size // 4))
            start = size // 4 + self._random.randint(0, max(0, size // 2 - length))
            self._of(tensor).turn(slice(start, start + length))

    def settle(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give each the values that it has whenever it is settled: the middle quarter is turned."""
        for tensor in tensors:
            start = 3 * tensor.numel() // 8
            self._of(tensor).turn(slice(start, start + max(2, tensor.numel() // 4)))

    def _of(self, tensor: torch.Tensor) -> _Turned:
        # By identity: rivals share tensors, and what one has turned another must turn back.
        return self._turned.setdefault(id(tensor), _Turned(tensor))


class _Turned:
    """One tensor, and which block of it is turned round."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor  # kept, so that no other gets its identity
        # `data` has a count of changes of its own.
        self._flat = tensor.data.view(-1)
        self._block = slice(0, 0)

    def turn(self, block: slice) -> None:
        """Turn the block back that is turned, and this one round."""
        self._flip(self._block)
        self._flip(block)
        self._block = block

    def _flip(self, block: slice) -> None:
        part = self._flat[block]
        part.copy_(part.flip(0))
