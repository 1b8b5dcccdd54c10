"""Tries once, at small sizes, what a variant declares: do names, tensors and forwards agree?"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bakeoff.registry.binding import CONTEXT, resolve_options, returned_fault
from bakeoff.registry.errors import BakeoffError, UnsupportedError, brief, did_you_mean, typed
from bakeoff.registry.problems import Fault
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Attention, Identity, Variant

__all__ = ["trial_faults"]

#: Small sizes at which the declarations are tried once.
SHAPE = Shape(2, 2, 2, 16, 16, 8, 8, grid=((4, 4),))
FEATURES = 8
SOURCES = ("parameters", "inputs", "noise")


def trial_faults(variant: Variant) -> Iterator[Fault]:
    """What is wrong with a variant whose fields all have the right types."""
    import torch

    faults = [f for name in variant.options for f in _clash_faults(variant, "options", name, {})]
    taken = dict.fromkeys(variant.options, "options")
    # A declaration may draw from the global generator; loading plugins must not move it.
    with torch.random.fork_rng(devices=[]):
        for source in () if faults else SOURCES:
            names, found = _declared(variant, source)
            faults += found
            for name in names:
                faults += _clash_faults(variant, source, name, taken)
                taken[name] = source
        for i, identity in enumerate(() if faults else variant.identities):
            faults += _identity_faults(variant, f"identities[{i}]", identity, taken)
    if faults:  # what follows from them would be told twice
        yield from faults
        return
    yield from _signature_faults(variant, taken)
    known = (*variant.arguments, *taken)
    for name in variant.metadata.unused:
        if name not in known:
            hint = did_you_mean(name, known)
            yield Fault("metadata.unused", typed(name), f"an argument of the forwards; {hint}")


def _size(variant: Variant) -> Shape | int:
    return SHAPE if isinstance(variant, Attention) else FEATURES


def _declared(variant: Variant, source: str) -> tuple[list[str], list[Fault]]:
    """The names that ``source`` returns, and what is wrong with what it returns."""
    declaration = getattr(variant, source)
    if declaration is None:
        return [], []
    size = _size(variant)
    try:
        returned = declaration(size, None, **variant.options)
    except Exception as error:
        expected = f"a function of (shape, generator, **options), here called with {size!r}"
        return [], [Fault(source, brief(error), expected, error)]
    fault = returned_fault(source, returned)
    return ([], [fault]) if fault else (list(returned), [])


def _clash_faults(
    variant: Variant, source: str, name: object, taken: Mapping[str, str]
) -> Iterator[Fault]:
    if not isinstance(name, str) or not name.isidentifier():
        yield Fault(source, typed(name), "names that are Python identifiers")
    elif name in (*variant.arguments, *CONTEXT):
        yield Fault(source, f"the name {name!r}", f"a name that is no argument of {variant.kind}")
    elif name in taken:
        yield Fault(source, f"the name {name!r}", f"a name that {taken[name]} does not use too")
    elif source == "options" and name in ("shape", "generator"):
        yield Fault(source, f"the name {name!r}", "a name that no declaration has as an argument")
    elif source == "parameters" and name in _attributes_of_modules():
        yield Fault(source, f"the name {name!r}", "a name that is no attribute of a torch module")


@functools.cache
def _attributes_of_modules() -> frozenset[str]:
    """A parameter becomes an attribute of a module, so it can't have the name of another."""
    from torch import nn

    from bakeoff.registry.module import VariantModule

    return frozenset((*dir(nn.Identity()), *dir(VariantModule), *VariantModule.__annotations__))


def _identity_faults(
    variant: Variant, where: str, identity: Identity, taken: Mapping[str, str]
) -> Iterator[Fault]:
    """Whether an identity changes only options and tensors that the variant has."""
    for name in ("options", "unless", "tensors"):
        function = getattr(identity, name)
        if function is None:
            continue
        try:
            given = function(_size(variant))
            if name != "tensors":
                resolve_options(variant, given)
                continue
        except UnsupportedError:
            continue  # it says nothing about this shape
        except BakeoffError as error:
            yield Fault(f"{where}.{name}", str(error), "options of the variant, by name")
            continue
        except Exception as error:
            expected = f"a function of the shape, here called with {_size(variant)!r}"
            yield Fault(f"{where}.{name}", brief(error), expected, error)
            continue
        fault = returned_fault(f"{where}.tensors", given)
        if fault:
            yield fault
            continue
        declared = [tensor for tensor, source in taken.items() if source != "options"]
        for tensor in given:
            if tensor not in declared:
                hint = did_you_mean(tensor, declared)
                yield Fault(f"{where}.tensors", typed(tensor), f"a declared tensor; {hint}")


def _signature_faults(variant: Variant, keywords: Iterable[str]) -> Iterator[Fault]:
    """Whether every function can be called as the suites and modules will call it."""
    positional = {"activation": "x", "attention": "q, k, v", "connection": "x, branch"}
    names = positional[variant.kind].split(", ")
    extra = (*variant.arguments[len(names) :], *keywords)
    for name in variant.forwards:
        forward = variant.forward(name)
        yield from _bind_faults(f"forwards[{name!r}]", forward.fn, names, extra)
        for hook in ("supports", "flops", "min_bytes"):
            if getattr(forward, hook):
                where = f"forwards[{name!r}].{hook}"
                yield from _bind_faults(where, getattr(forward, hook), ["case"])
    for i, identity in enumerate(variant.identities):
        if callable(identity.equals):
            arguments = variant.arguments[len(names) :]
            yield from _bind_faults(f"identities[{i}].equals", identity.equals, names, arguments)
    if isinstance(variant, Attention) and variant.recurrence:
        yield from _bind_faults("recurrence", variant.recurrence, names, (*extra, "state"))


def _bind_faults(
    where: str, fn: Callable[..., Any], positional: list[str], keywords: Iterable[str] = ()
) -> Iterator[Fault]:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # a builtin without a signature: the accuracy suite calls it
    given = dict.fromkeys(keywords)
    context = {name: None for name in CONTEXT if name in signature.parameters}
    try:
        signature.bind(*positional, **given, **context)
    except TypeError as error:
        wanted = ", ".join((*positional, *(f"{name}=…" for name in given)))
        yield Fault(where, f"{signature} ({error})", f"a function that takes ({wanted})")
