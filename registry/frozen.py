"""A mapping that cannot be changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

__all__ = ["FrozenMap"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FrozenMap(Mapping[K, V]):
    """An immutable copy of a mapping, in its order.

    Unlike ``types.MappingProxyType`` it can be pickled, copied and, where its values can be,
    hashed: a module that holds a variant is saved with ``torch.save`` and copied with
    ``copy.deepcopy`` like any other.

    Example:
        >>> FrozenMap({"window": 128})
        FrozenMap({'window': 128})
        >>> FrozenMap({"window": 128}) == {"window": 128}
        True
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"
