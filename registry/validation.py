"""Judges a variant against the contract, before it enters a catalog."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bakeoff.registry.errors import did_you_mean, typed
from bakeoff.registry.metadata import PROPERTIES, SECTIONS, TAGS, Metadata, Paper
from bakeoff.registry.problems import Fault
from bakeoff.registry.shapes import PATTERNS
from bakeoff.registry.trial import trial_faults
from bakeoff.registry.variants import (
    COMPLEXITIES,
    Activation,
    Attention,
    Connection,
    Forward,
    Identity,
    Variant,
)

__all__ = ["faults_of"]

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MASKS = ("none", "keys", "full")
PLAIN = (bool, int, float, str, type(None))


def faults_of(variant: object) -> list[Fault]:
    """Every breach of the contract in ``variant``; an empty list where there is none."""
    if not isinstance(variant, (Activation, Attention, Connection)):
        return [Fault("variant", typed(variant), "an Activation, an Attention or a Connection")]
    checks: tuple[Callable[[Variant], Iterable[Fault]], ...] = (
        _field_faults,
        _metadata_faults,
        _option_faults,
        _forward_faults,
        _identity_faults,
    )
    faults = [fault for check in checks for fault in check(variant)]
    # What is declared is tried only where the types of all fields can be relied on.
    return faults or list(trial_faults(variant))


def _field_faults(variant: Variant) -> Iterator[Fault]:
    if not isinstance(variant.name, str) or not SNAKE_CASE.fullmatch(variant.name):
        yield Fault("name", typed(variant.name), "lower_snake_case, as in 'leaky_relu'")
    if variant.approximates is not None and not isinstance(variant.approximates, str):
        yield Fault("approximates", typed(variant.approximates), "the name of a variant or None")
    for flag in ("gated", "grouped"):
        if not isinstance(getattr(variant, flag, False), bool):
            yield Fault(flag, typed(getattr(variant, flag)), "True or False")
    for name in ("parameters", "inputs", "noise", "recurrence"):
        function = getattr(variant, name, None)
        if function is not None and not callable(function):
            yield Fault(name, typed(function), "a function or None")


def _metadata_faults(variant: Variant) -> Iterator[Fault]:
    metadata = variant.metadata
    if not isinstance(metadata, Metadata):
        yield Fault("metadata", typed(metadata), "a Metadata")
        return
    for name in ("title", "summary", "formula", "use_when"):
        yield from _text_faults(f"metadata.{name}", getattr(metadata, name))
    for name in ("strengths", "weaknesses", "tags", "unused", "aliases"):
        values = getattr(metadata, name)
        yield from _texts_faults(f"metadata.{name}", values)
        if not values and name in ("strengths", "weaknesses", "tags"):
            yield Fault(f"metadata.{name}", typed(values), "at least one")
    yield from _tag_faults(metadata.tags)
    sections = SECTIONS[variant.kind]
    if metadata.section != "" and metadata.section not in sections:
        hint = did_you_mean(str(metadata.section), sections)
        yield Fault("metadata.section", typed(metadata.section), f"a known section; {hint}")
    for alias in _texts(metadata.aliases):
        if not SNAKE_CASE.fullmatch(alias):
            yield Fault("metadata.aliases", typed(alias), "lower_snake_case")
    if not isinstance(metadata.control, bool):
        yield Fault("metadata.control", typed(metadata.control), "True or False")
    if metadata.paper is not None:
        yield from _paper_faults(metadata.paper)
    yield from _property_faults(variant)


def _paper_faults(paper: object) -> Iterator[Fault]:
    if not isinstance(paper, Paper):
        yield Fault("metadata.paper", typed(paper), "a Paper, or None")
        return
    yield from _text_faults("metadata.paper.title", paper.title)
    yield from _texts_faults("metadata.paper.authors", paper.authors)
    if paper.authors == ():
        yield Fault("metadata.paper.authors", "()", "at least one")
    if not isinstance(paper.year, int) or isinstance(paper.year, bool):
        yield Fault("metadata.paper.year", typed(paper.year), "a year, as in 2017")
    if not isinstance(paper.url, str):
        yield Fault("metadata.paper.url", typed(paper.url), "a text, which may be empty")


def _text_faults(where: str, text: object) -> Iterator[Fault]:
    if not isinstance(text, str) or not text.strip():
        yield Fault(where, typed(text), "a text that is not empty")


def _texts_faults(where: str, values: object) -> Iterator[Fault]:
    if not isinstance(values, tuple) or len(_texts(values)) < len(values):
        yield Fault(where, typed(values), "a tuple of texts that are not empty")


def _texts(values: object) -> list[str]:
    """The texts in ``values``, whatever it is."""
    given = values if isinstance(values, tuple) else ()
    return [value for value in given if isinstance(value, str) and value.strip()]


def _tag_faults(tags: object) -> Iterator[Fault]:
    known = [tag for group in TAGS.values() for tag in group]
    for tag in _texts(tags):
        if tag not in known:
            yield Fault("metadata.tags", typed(tag), f"a known tag; {did_you_mean(tag, known)}")


def _property_faults(variant: Variant) -> Iterator[Fault]:
    properties, known = variant.metadata.properties, PROPERTIES[variant.kind]
    if not isinstance(properties, Mapping):
        yield Fault("metadata.properties", typed(properties), "a mapping of names to values")
        return
    name: Any
    value: Any
    for name, value in properties.items():
        where = f"metadata.properties[{name!r}]"
        if name not in known:
            hint = did_you_mean(name, known)
            expected = f"a property of the kind {variant.kind}; {hint}"
            yield Fault("metadata.properties", typed(name), expected)
        elif not _is_a(value, known[name]):
            yield Fault(where, typed(value), f"a {known[name].__name__}")
        elif name == "branch_calls" and value < 0:
            yield Fault(where, typed(value), "a number that is not negative")
        elif name == "range" and not _is_range(value):
            yield Fault(where, typed(value), "(infimum, supremum), two numbers in order")
        elif name == "patterns":
            yield from _pattern_faults(where, value)


def _pattern_faults(where: str, patterns: Any) -> Iterator[Fault]:
    for pattern in patterns:
        if not isinstance(pattern, str) or pattern not in PATTERNS:
            hint = did_you_mean(pattern, PATTERNS)
            yield Fault(where, typed(pattern), f"a known pattern; {hint}")


def _is_a(value: Any, kind: type) -> bool:
    """A truth value is no number here, though it is one to Python."""
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _is_range(value: Any) -> bool:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return len(value) == 2 and numbers and value[0] < value[1]


def _option_faults(variant: Variant) -> Iterator[Fault]:
    if not isinstance(variant.options, Mapping):
        yield Fault("options", typed(variant.options), "a mapping of names to plain values")
        return
    for name, value in variant.options.items():
        if not _is_plain(value):
            yield Fault(f"options[{name!r}]", typed(value), _PLAIN_VALUE)
    if not isinstance(variant.option_values, Mapping):
        got = typed(variant.option_values)
        yield Fault("option_values", got, "a mapping of an option's name to a tuple of its values")
        return
    for name, values in variant.option_values.items():
        where = f"option_values[{name!r}]"
        if name not in variant.options:
            hint = did_you_mean(name, variant.options)
            yield Fault("option_values", typed(name), f"the name of an option; {hint}")
        elif not isinstance(values, tuple) or not values:
            yield Fault(where, typed(values), "a tuple of at least one value")
        elif not all(_is_plain(value) for value in values):
            yield Fault(where, typed(values), f"values, each {_PLAIN_VALUE}")


def _is_plain(value: object) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return all(isinstance(item, PLAIN) for item in items)


_PLAIN_VALUE = "a bool, a number, a text, None, or a tuple of these"


def _forward_faults(variant: Variant) -> Iterator[Fault]:
    forwards = variant.forwards
    if not isinstance(forwards, Mapping):
        yield Fault("forwards", typed(forwards), "a mapping of names to functions or Forwards")
        return
    if "reference" not in forwards:
        names = ", ".join(str(name) for name in forwards) or "nothing"
        yield Fault("forwards", names, "one named 'reference' among them, the oracle")
    for name, forward in forwards.items():
        if not isinstance(name, str) or not SNAKE_CASE.fullmatch(name):
            yield Fault("forwards", typed(name), "names in lower_snake_case")
        if not isinstance(forward, Forward):
            yield Fault(f"forwards[{name!r}]", typed(forward), "a function or a Forward")
        else:
            yield from _one_forward_faults(f"forwards[{name!r}]", forward)


def _one_forward_faults(where: str, forward: Forward) -> Iterator[Fault]:
    # A class can be called, but what it returns is no tensor.
    if not callable(forward.fn) or inspect.isclass(forward.fn):
        yield Fault(where, typed(forward.fn), "a function that returns a tensor")
    if not isinstance(forward.masks, str) or forward.masks not in MASKS:
        yield Fault(f"{where}.masks", typed(forward.masks), f"one of {', '.join(MASKS)}")
    if not isinstance(forward.backward, bool):
        yield Fault(f"{where}.backward", typed(forward.backward), "True or False")
    for cost in ("complexity", "memory"):
        declared = getattr(forward, cost)
        if declared is not None and (not isinstance(declared, str) or declared not in COMPLEXITIES):
            expected = f"None or one of {', '.join(COMPLEXITIES)}"
            yield Fault(f"{where}.{cost}", typed(declared), expected)
    for hook in ("supports", "flops", "min_bytes"):
        given = getattr(forward, hook)
        if given is not None and not callable(given):
            yield Fault(f"{where}.{hook}", typed(given), "a function of a Case, or None")


def _identity_faults(variant: Variant) -> Iterator[Fault]:
    if not isinstance(variant.identities, tuple):
        yield Fault("identities", typed(variant.identities), "a tuple of Identity")
        return
    for i, identity in enumerate(variant.identities):
        where = f"identities[{i}]"
        if not isinstance(identity, Identity):
            yield Fault(where, typed(identity), "an Identity")
            continue
        yield from _text_faults(f"{where}.name", identity.name)
        if not isinstance(identity.equals, str) and not callable(identity.equals):
            expected = "the name of a variant, or a function with the arguments of the kind"
            yield Fault(f"{where}.equals", typed(identity.equals), expected)
        for name in ("options", "tensors", "unless"):
            given = getattr(identity, name)
            if given is not None and not callable(given):
                yield Fault(f"{where}.{name}", typed(given), "a function of the shape, or None")
