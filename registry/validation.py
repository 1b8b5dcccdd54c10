"""Judges a variant against the contract, before it enters a catalog."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.registry.binding import CONTEXT, draw
from bakeoff.registry.errors import did_you_mean
from bakeoff.registry.metadata import PROPERTIES, TAGS, Metadata, Paper
from bakeoff.registry.shapes import PATTERNS, Shape
from bakeoff.registry.variants import COMPLEXITIES, KINDS, Attention, Forward, Identity, Variant

__all__ = ["Fault", "faults_of"]

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MASKS = ("none", "keys", "full")
PLAIN = (bool, int, float, str, type(None))

#: Small sizes at which the declarations are tried once.
PROBE_SHAPE = Shape(2, 2, 2, 16, 16, 8, 8, grid=((4, 4),))
PROBE_FEATURES = 8


@dataclass(frozen=True)
class Fault:
    """One breach of the contract."""

    field: str
    got: str
    expected: str

    def __str__(self) -> str:
        return f"{self.field}: got {self.got}, expected {self.expected}"


def faults_of(variant: object) -> list[Fault]:
    """Every breach of the contract in ``variant``; an empty list where there is none."""
    if not isinstance(variant, Variant):
        expected = " or ".join(cls.__name__ for cls in KINDS.values())
        return [Fault("variant", _shown(variant), f"an {expected}")]
    checks: tuple[Callable[[Variant], Iterable[Fault]], ...] = (
        _name_faults,
        _metadata_faults,
        _option_faults,
        _forward_faults,
        _identity_faults,
    )
    faults = [fault for check in checks for fault in check(variant)]
    # Tensors are drawn and bound only where their names and the forwards can be relied on.
    return faults or list(_tensor_faults(variant))


def _name_faults(variant: Variant) -> Iterator[Fault]:
    if not isinstance(variant.name, str) or not SNAKE_CASE.fullmatch(variant.name):
        yield Fault("name", _shown(variant.name), "lower_snake_case, as in 'leaky_relu'")
    if variant.approximates is not None and not isinstance(variant.approximates, str):
        yield Fault("approximates", _shown(variant.approximates), "the name of a variant or None")
    for flag in ("gated", "grouped"):
        if not isinstance(getattr(variant, flag, False), bool):
            yield Fault(flag, _shown(getattr(variant, flag)), "True or False")
    recurrence = getattr(variant, "recurrence", None)
    if recurrence is not None and not callable(recurrence):
        yield Fault("recurrence", _shown(recurrence), "a function or None")


def _metadata_faults(variant: Variant) -> Iterator[Fault]:
    metadata = variant.metadata
    if not isinstance(metadata, Metadata):
        yield Fault("metadata", _shown(metadata), "a Metadata")
        return
    for name in ("title", "summary", "formula", "use_when"):
        text = getattr(metadata, name)
        if not isinstance(text, str) or not text.strip():
            yield Fault(f"metadata.{name}", _shown(text), "a text that is not empty")
    for name in ("strengths", "weaknesses", "tags", "unused", "aliases"):
        values = getattr(metadata, name)
        if not isinstance(values, tuple) or not all(isinstance(v, str) and v for v in values):
            yield Fault(f"metadata.{name}", _shown(values), "a tuple of texts")
        elif not values and name in ("strengths", "weaknesses", "tags"):
            yield Fault(f"metadata.{name}", "nothing", "at least one")
        elif name == "tags":
            yield from _tag_faults(values)
        elif name == "aliases":
            for alias in values:
                if not SNAKE_CASE.fullmatch(alias):
                    yield Fault("metadata.aliases", _shown(alias), "lower_snake_case")
    paper = metadata.paper
    if not isinstance(paper, Paper):
        yield Fault("metadata.paper", _shown(paper), "a Paper")
    elif not isinstance(paper.year, int) or not paper.title or not paper.authors:
        yield Fault("metadata.paper", _shown(paper), "a title, authors and a year")
    yield from _property_faults(variant)


def _tag_faults(tags: tuple[str, ...]) -> Iterator[Fault]:
    known = [tag for group in TAGS.values() for tag in group]
    for tag in tags:
        if tag not in known:
            yield Fault("metadata.tags", _shown(tag), f"a known tag; {did_you_mean(tag, known)}")


def _property_faults(variant: Variant) -> Iterator[Fault]:
    properties, known = variant.metadata.properties, PROPERTIES[variant.kind]
    if not isinstance(properties, Mapping):
        yield Fault("metadata.properties", _shown(properties), "a mapping of names to values")
        return
    for name, value in dict[str, Any](properties).items():
        where = f"metadata.properties[{name!r}]"
        if name not in known:
            hint = did_you_mean(name, known)
            yield Fault("metadata.properties", _shown(name), f"a property of this kind; {hint}")
        elif not isinstance(value, known[name]):
            yield Fault(where, _shown(value), f"a {known[name].__name__}")
        elif name == "range" and not _is_range(value):
            yield Fault(where, _shown(value), "(infimum, supremum), two numbers in order")
        elif name == "patterns":
            for pattern in value:
                if pattern not in PATTERNS:
                    hint = did_you_mean(pattern, PATTERNS)
                    yield Fault(where, _shown(pattern), f"a known pattern; {hint}")


def _is_range(value: tuple[Any, ...]) -> bool:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return len(value) == 2 and numbers and value[0] < value[1]


def _option_faults(variant: Variant) -> Iterator[Fault]:
    if not isinstance(variant.options, Mapping):
        yield Fault("options", _shown(variant.options), "a mapping of names to plain values")
        return
    for name, value in variant.options.items():
        yield from _clash_faults(variant, "options", name, taken={})
        items = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(item, PLAIN) for item in items):
            yield Fault(f"options[{name!r}]", _shown(value), "a plain value or a tuple of them")


def _forward_faults(variant: Variant) -> Iterator[Fault]:
    forwards = variant.forwards
    if not isinstance(forwards, Mapping) or "reference" not in forwards:
        got = f"forwards {list(forwards)}" if isinstance(forwards, Mapping) else _shown(forwards)
        yield Fault("forwards", got, "a mapping with a forward named 'reference', the oracle")
        return
    for name, forward in forwards.items():
        where = f"forwards[{name!r}]"
        if not isinstance(name, str) or not SNAKE_CASE.fullmatch(name):
            yield Fault("forwards", _shown(name), "names in lower_snake_case")
        if not isinstance(forward, Forward) or not callable(forward.fn):
            yield Fault(where, _shown(forward), "a function or a Forward")
            continue
        if forward.masks not in MASKS:
            yield Fault(f"{where}.masks", _shown(forward.masks), f"one of {', '.join(MASKS)}")
        for cost in ("complexity", "memory"):
            declared = getattr(forward, cost)
            if declared is not None and declared not in COMPLEXITIES:
                known = ", ".join(COMPLEXITIES)
                yield Fault(f"{where}.{cost}", _shown(declared), f"None or one of {known}")
        for hook in ("supports", "flops", "min_bytes"):
            given = getattr(forward, hook)
            if given is not None and not callable(given):
                yield Fault(f"{where}.{hook}", _shown(given), "a function of a Case, or None")


def _identity_faults(variant: Variant) -> Iterator[Fault]:
    if not isinstance(variant.identities, tuple):
        yield Fault("identities", _shown(variant.identities), "a tuple of Identity")
        return
    for i, identity in enumerate(variant.identities):
        if not isinstance(identity, Identity):
            yield Fault(f"identities[{i}]", _shown(identity), "an Identity")
        elif not isinstance(identity.equals, str) and not callable(identity.equals):
            yield Fault(
                f"identities[{i}].equals",
                _shown(identity.equals),
                "the name of a variant, or a function with the arguments of the kind",
            )


def _tensor_faults(variant: Variant) -> Iterator[Fault]:
    """Draw the declared tensors once, check their names, and bind them to every forward."""
    size = PROBE_SHAPE if isinstance(variant, Attention) else PROBE_FEATURES
    taken: dict[str, str] = dict.fromkeys(variant.options, "options")
    for source in ("parameters", "inputs", "noise"):
        try:
            tensors = draw(variant, source, size, None, variant.options)
        except Exception as error:
            yield Fault(
                source,
                f"{type(error).__name__}: {error}",
                f"a function of (shape, generator, **options), tried at {size}",
            )
            return
        for name in tensors:
            yield from _clash_faults(variant, source, name, taken)
            taken[name] = source
    yield from _signature_faults(variant, taken)
    known = (*variant.arguments, *taken)
    for name in variant.metadata.unused:
        if name not in known:
            hint = did_you_mean(name, known)
            yield Fault("metadata.unused", _shown(name), f"an argument of the forwards; {hint}")


def _clash_faults(
    variant: Variant, source: str, name: object, taken: Mapping[str, str]
) -> Iterator[Fault]:
    if not isinstance(name, str) or not name.isidentifier():
        yield Fault(source, _shown(name), "names that are Python identifiers")
    elif name in (*variant.arguments, *CONTEXT):
        yield Fault(source, f"the name {name!r}", f"a name that is no argument of {variant.kind}")
    elif name in taken:
        yield Fault(source, f"the name {name!r}", f"a name that {taken[name]} does not use too")


def _signature_faults(variant: Variant, keywords: Iterable[str]) -> Iterator[Fault]:
    positional = {"activation": "x", "attention": "q, k, v", "connection": "x, branch"}
    names = positional[variant.kind].split(", ")
    extra = dict.fromkeys((*variant.arguments[len(names) :], *keywords))
    functions = {f"forwards[{name!r}]": variant.forward(name).fn for name in variant.forwards}
    if isinstance(variant, Attention) and variant.recurrence:
        functions["recurrence"] = variant.recurrence
        extra_of = {"recurrence": {**extra, "state": None}}
    else:
        extra_of = {}
    for where, fn in functions.items():
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):
            continue  # a builtin without a signature: the accuracy suite calls it
        try:
            signature.bind(*names, **extra_of.get(where, extra))
        except TypeError as error:
            wanted = ", ".join((positional[variant.kind], *(f"{n}=…" for n in extra)))
            yield Fault(where, f"{signature} ({error})", f"a function that takes ({wanted})")


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '…'} ({type(value).__name__})"
