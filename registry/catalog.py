"""The catalog: every variant that was found, and every plugin that could not be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bakeoff.registry.errors import (
    InvalidVariantError,
    UnknownNameError,
    UsageError,
    did_you_mean,
    typed,
)
from bakeoff.registry.frozen import FrozenMap
from bakeoff.registry.metadata import TAGS
from bakeoff.registry.problems import Problem
from bakeoff.registry.validation import faults_of
from bakeoff.registry.variants import KINDS, Variant

__all__ = ["Catalog", "Contribution", "Problem"]


@dataclass(frozen=True)
class Contribution:
    """What a plugin returned from a hook other than ``bakeoff_variants``."""

    origin: str
    value: Any


@dataclass(frozen=True, eq=False)
class Catalog(Mapping[str, Variant]):
    """An immutable mapping of names to variants, in a stable order.

    Aliases are found too, but not iterated. Make one with :func:`bakeoff.load`.

    Args:
        variants: Name to variant.
        origins: Name to the plugin that brought it.
        problems: What could not be loaded.
        contributions: Hook name to what plugins returned from it.
        sources: What a worker process must load to see the same variants.
        added: Variants that came from :meth:`with_variants`, and from no plugin.
        unclean: Name to reason, of variants that are not measured because loading their plugin
            changes the process that others share: see
            :class:`bakeoff.registry.global_state.GlobalState`.

    Example:
        >>> import bakeoff
        >>> catalog = bakeoff.load()
        >>> catalog["swish"] is catalog["silu"]
        True
        >>> [variant.name for variant in catalog.select(kind="activation", tags="mobile")]
        ['hardsigmoid', 'hardswish', 'hardtanh', 'relu6']
        >>> catalog["relo"]
        Traceback (most recent call last):
        bakeoff.registry.errors.UnknownNameError: no variant is called 'relo'; did you mean relu?
    """

    variants: Mapping[str, Variant]
    origins: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    contributions: Mapping[str, tuple[Contribution, ...]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    added: tuple[Variant, ...] = ()
    unclean: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("variants", "origins", "contributions", "unclean"):
            object.__setattr__(self, name, FrozenMap(getattr(self, name)))

    def __getitem__(self, name: str) -> Variant:
        found = self.variants.get(name) or self._by_alias().get(name)
        if found is None:
            hint = did_you_mean(name, [*self.variants, *self._by_alias()])
            raise UnknownNameError(f"no variant is called {name!r}; {hint}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.variants)

    def __len__(self) -> int:
        return len(self.variants)

    def __contains__(self, name: object) -> bool:
        return name in self.variants or name in self._by_alias()

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{len(self.select(kind=kind))} {kind}s" for kind in KINDS if self.select(kind=kind)
        )
        return f"<Catalog of {counts or 'nothing'}; {len(self.problems)} problems>"

    def select(
        self,
        *,
        kind: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
        names: str | Iterable[str] | None = None,
    ) -> tuple[Variant, ...]:
        """The variants of these kinds, with all of these tags, of these names or aliases.

        Raises:
            UnknownNameError: For a kind, a tag or a name that is not known.
        """
        kinds = _known("kind", _strings(kind), KINDS)
        wanted = _known("tag", _strings(tags), [tag for group in TAGS.values() for tag in group])
        chosen = None if names is None else {self[name].name for name in _strings(names)}
        return tuple(
            variant
            for variant in self.variants.values()
            if (kind is None or variant.kind in kinds)
            and set(wanted) <= set(variant.metadata.tags)
            and (chosen is None or variant.name in chosen)
        )

    def with_variants(self, *variants: Variant) -> Catalog:
        """A new catalog with these variants added, as in a notebook.

        Raises:
            InvalidVariantError: Where one breaks the contract or its name is taken.
        """
        catalog, origin = self, "with_variants"
        for variant in variants:
            reasons = [str(fault) for fault in faults_of(variant)] or catalog.clashes(
                variant, origin
            )
            if reasons:
                name = f"{variant.name}: " if isinstance(variant, Variant) else ""
                raise InvalidVariantError(f"{origin}: {name}" + "; ".join(reasons))
            catalog = catalog.plus(variant, origin, added=True)
        missing = [reason for variant in variants for reason in catalog.dangling(variant)]
        if missing:
            raise InvalidVariantError(f"{origin}: " + "; ".join(missing))
        return catalog

    def clashes(self, variant: Variant, origin: str) -> list[str]:
        """Why the names of ``variant`` cannot be added, with both origins."""
        reasons = []
        for name in (variant.name, *variant.metadata.aliases):
            if name in self:
                holder = self[name]
                what = "a name" if name == holder.name else f"an alias of {holder.name}"
                reasons.append(
                    f"the name {name!r} of {variant.name} from {origin} is already {what} from "
                    f"{self.origins.get(holder.name, 'elsewhere')}; choose another"
                )
        aliases = (variant.name, *variant.metadata.aliases)
        if len(set(aliases)) < len(aliases):
            reasons.append(f"metadata.aliases: got {aliases[1:]}, expected names not used twice")
        return reasons

    def dangling(self, variant: Variant) -> list[str]:
        """The names in ``variant`` that should be variants and are not."""
        named: list[tuple[str, object]] = [("approximates", variant.approximates)]
        named += [(f"identity {i.name!r}", i.equals) for i in variant.identities]
        # Only another variant of the same kind takes the same arguments.
        others = [other for other in self.select(kind=variant.kind) if other.name != variant.name]
        known = [name for other in others for name in (other.name, *other.metadata.aliases)]
        return [
            f"{variant.name}: {where}: got {name!r}, expected another registered {variant.kind}; "
            f"{did_you_mean(name, known)}"
            for where, name in named
            if isinstance(name, str) and name not in known
        ]

    def plus(self, variant: Variant, origin: str, *, added: bool = False) -> Catalog:
        """A new catalog with one more variant, which must have been judged before."""
        return Catalog(
            {**self.variants, variant.name: variant},
            {**self.origins, variant.name: origin},
            self.problems,
            self.contributions,
            self.sources,
            (*self.added, variant) if added else self.added,
            self.unclean,
        )

    def _by_alias(self) -> dict[str, Variant]:
        return {a: v for v in self.variants.values() for a in v.metadata.aliases}


def _strings(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    for item in values:
        if not isinstance(item, str):
            raise UsageError(f"got {typed(item)}, expected a text or several")
    return values


def _known(what: str, given: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    for name in given:
        if name not in known:
            raise UnknownNameError(f"no {what} is called {name!r}; {did_you_mean(name, known)}")
    return given
