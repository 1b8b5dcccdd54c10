"""What plugins bring through a hook, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import BakeoffError, UnknownNameError, did_you_mean, typed

__all__ = ["brought", "chosen"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


def brought(catalog: Catalog, hook: str, of: type[T]) -> dict[str, T]:
    """Every contribution to ``hook``, each of type ``of``, by name.

    Raises:
        BakeoffError: Where a plugin returns something else, or two share a name.
    """
    kind = of.__name__.lower()
    found: dict[str, T] = {}
    origins: dict[str, str] = {}
    for contribution in catalog.contributions.get(hook, ()):
        value, origin = contribution.value, contribution.origin
        if not isinstance(value, of):
            raise BakeoffError(
                f"{origin}: {hook}: got {typed(value)}, expected a {of.__module__}.{of.__name__}"
            )
        if value.name in found:
            raise BakeoffError(
                f"{origin}: the {kind} {value.name!r} is already brought by "
                f"{origins[value.name]}; choose another name"
            )
        found[value.name], origins[value.name] = value, origin
    return found


def chosen(found: Mapping[str, T], names: Iterable[str], kind: str) -> dict[str, T]:
    """Those of ``names`` in the order of ``found``; all where none is named.

    Raises:
        UnknownNameError: For a name that none has.
    """
    wanted = tuple(names)
    for name in wanted:
        if name not in found:
            raise UnknownNameError(f"no {kind} is called {name!r}; {did_you_mean(name, found)}")
    return {name: value for name, value in found.items() if not wanted or name in wanted}
