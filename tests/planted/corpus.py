"""What a planted variant is, and the decorators that plant one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bakeoff import Forward, Metadata, Variant
from planted.witness import NORMAL, Witness, differs_anywhere, forward_differs

__all__ = ["PLANTED", "Planted", "fault", "lone_fault", "lone_right", "metadata", "right"]

#: A crash of a faulty variant counts as found.
FOUND = frozenset({"wrong", "failed"})
#: What a right variant may come out as.
CLEARED = frozenset({"right", "unverified"})


@dataclass(frozen=True)
class Planted:
    """A variant whose verdict is known.

    Args:
        variant: The variant, which no catalog holds yet.
        expected: The verdicts that a certificate may give.
        kind: The kind of fault, as ``"sizes"``, or ``"odd but right"``.
        why: What is wrong with it, or what makes it look odd.
        witness: Shows the fault directly, against plain float64 torch: True where it is there. For
            a right variant it must be False.
    """

    variant: Variant
    expected: frozenset[str]
    kind: str
    why: str
    witness: Witness

    @property
    def name(self) -> str:
        """The name of the variant."""
        return self.variant.name

    @property
    def faulty(self) -> bool:
        """Whether a certificate that says right is mistaken."""
        return "right" not in self.expected


PLANTED: list[Planted] = []


def metadata(**changes: Any) -> Metadata:
    """A metadata that says as little as it may."""
    fields: dict[str, Any] = {
        "title": "Planted",
        "summary": "Its verdict is known.",
        "formula": "y",
        "strengths": ("known",),
        "weaknesses": ("useless",),
        "use_when": "To prove the certificate.",
        "tags": ("soft",),
    }
    return Metadata(**{**fields, **changes})


def fault(
    kind: str,
    why: str,
    *,
    of: Variant,
    at: Mapping[str, Any] = NORMAL,
    witness: Witness | None = None,
    expected: frozenset[str] = FOUND,
    properties: Mapping[str, Any] | None = None,
    **declared: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant the decorated function as the fast forward of a variant like ``of``.

    Args:
        kind: The kind of fault.
        why: What is wrong.
        of: A variant that has a reference alone.
        at: Where the outputs differ: changes to :data:`planted.witness.NORMAL`.
        witness: Shows the fault, where it is not in the outputs.
        expected: The verdicts that a certificate may give.
        properties: Properties that differ from those of ``of``.
        **declared: What else the :class:`Forward` declares.
    """

    def plant(fn: Callable[..., Any]) -> Callable[..., Any]:
        variant = _with_fast(of, fn, properties, declared)
        seen = witness or forward_differs("fast", at)
        PLANTED.append(Planted(variant, expected, kind, why, seen))
        return fn

    return plant


def right(
    why: str,
    *,
    of: Variant,
    at: Mapping[str, Any] = NORMAL,
    properties: Mapping[str, Any] | None = None,
    **declared: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant the decorated function as a fast forward that looks odd and is right."""
    return fault(
        "odd but right",
        why,
        of=of,
        witness=differs_anywhere(at),
        expected=CLEARED,
        properties=properties,
        **declared,
    )


def lone_fault(
    kind: str,
    why: str,
    *,
    of: Variant,
    at: Mapping[str, Any] = NORMAL,
    witness: Witness | None = None,
    expected: frozenset[str] = FOUND,
    properties: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant the decorated function as the only forward of a variant like ``of``.

    Args:
        kind: The kind of fault.
        why: What is wrong.
        of: A variant whose reference is what the function should have been.
        at: Where the outputs differ from that of ``of``.
        witness: Shows the fault, where it is not in the outputs.
        expected: The verdicts that a certificate may give.
        properties: Properties that differ from those of ``of``.
        **changes: Other fields of the variant that differ.
    """

    def plant(fn: Callable[..., Any]) -> Callable[..., Any]:
        given = {"forwards": {"reference": fn}, **changes}
        variant = _described(replace(of, name=f"planted_{fn.__name__}", **given), properties)
        seen = witness or forward_differs("reference", at, truth=of)
        PLANTED.append(Planted(variant, expected, kind, why, seen))
        return fn

    return plant


def lone_right(
    why: str, *, of: Variant, properties: Mapping[str, Any] | None = None, **changes: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant the decorated function as the only forward of an odd variant that is right."""

    return lone_fault(
        "odd but right",
        why,
        of=of,
        witness=lambda _: False,
        expected=CLEARED,
        properties=properties,
        **changes,
    )


def _with_fast(
    of: Variant,
    fn: Callable[..., Any],
    properties: Mapping[str, Any] | None,
    declared: Mapping[str, Any],
) -> Variant:
    reference = of.forward("reference")
    masks = declared.get("masks", reference.masks)
    forwards = {"reference": reference, "fast": Forward(fn, **{**declared, "masks": masks})}
    variant = replace(of, name=f"planted_{fn.__name__}", forwards=forwards)
    return _described(variant, properties)


def _described(variant: Variant, properties: Mapping[str, Any] | None) -> Variant:
    if properties is None:
        return variant
    described = {**variant.metadata.properties, **properties}
    return replace(variant, metadata=replace(variant.metadata, properties=described))
