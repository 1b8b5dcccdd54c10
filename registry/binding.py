"""Binds a variant's forward to its options and tensors, so that it can be called."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import (
    InvalidVariantError,
    UnknownNameError,
    UsageError,
    did_you_mean,
    typed,
)
from bakeoff.registry.problems import Fault
from bakeoff.registry.variants import Variant

if TYPE_CHECKING:
    import torch

    from bakeoff.registry.shapes import Shape

__all__ = ["CONTEXT", "context_for", "draw", "named", "resolve_options", "returned_fault", "takes"]

#: Arguments that reach only a forward that names them.
CONTEXT = ("grid", "layer", "depth", "history")


def draw(
    variant: Variant,
    source: str,
    shape: Shape | int,
    generator: torch.Generator | None,
    options: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """The tensors that ``variant`` declares under ``source``, by name.

    Args:
        variant: The variant.
        source: ``"parameters"``, ``"inputs"`` or ``"noise"``.
        shape: A :class:`Shape` for attention, the number of features otherwise.
        generator: Where randomness comes from; None for torch's global generator.
        options: The options, complete (see :func:`resolve_options`).

    Raises:
        InvalidVariantError: Where the declaration returns anything but tensors by name.
    """
    declaration = getattr(variant, source)
    if declaration is None:
        return {}
    tensors = declaration(shape, generator, **options)
    fault = returned_fault(source, tensors)
    if fault:
        raise InvalidVariantError(f"{variant.name}: {fault}")
    return dict(tensors)


def returned_fault(source: str, returned: object) -> Fault | None:
    """What is wrong with what the declaration ``source`` returned."""
    import torch

    if not isinstance(returned, Mapping):
        return Fault(source, typed(returned), "a mapping of name to tensor")
    for name, tensor in returned.items():
        if not isinstance(tensor, torch.Tensor):
            return Fault(f"{source}[{name!r}]", typed(tensor), "a tensor")
        if tensor.requires_grad and not isinstance(tensor, torch.nn.Parameter):
            got = "a tensor that requires a gradient"
            return Fault(f"{source}[{name!r}]", got, "a nn.Parameter to learn, or a plain tensor")
    return None


def resolve_options(variant: Variant, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All options of ``variant``: the defaults, changed by ``given``.

    Raises:
        UnknownNameError: Where ``given`` names an option that the variant does not have.
        UsageError: Where a value is not of the type of the default.
    """
    options = dict(variant.options)
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"{variant.name}: options: got {typed(given)}, expected a mapping")
    for name, value in (given or {}).items():
        if name not in options:
            hint = did_you_mean(name, options)
            raise UnknownNameError(f"{variant.name} has no option {name!r}; {hint}")
        default = options[name]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and value is not None and type(value) is not type(default):
            raise UsageError(
                f"{variant.name}: option {name} is {value!r} ({type(value).__name__}), expected "
                f"{type(default).__name__} like its default {default!r}"
            )
        options[name] = value
    return options


def context_for(fn: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``given`` (of :data:`CONTEXT`) that ``fn`` names as an argument."""
    return {n: value for n, value in given.items() if n in CONTEXT and n in named(fn)}


def takes(variant: Variant, name: str) -> bool:
    """Whether a forward of ``variant`` names this argument of :data:`CONTEXT`."""
    return any(name in named(variant.forward(forward).fn) for forward in variant.forwards)


def named(fn: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments of :data:`CONTEXT` that ``fn`` names."""
    # Dynamo cannot trace inspect.signature; the names of a function's arguments never change.
    code = fn.__code__ if isinstance(fn, types.FunctionType) else None
    if code is not None:
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return tuple(name for name in CONTEXT if name in names)
    return _signature_names(fn)


@functools.cache
def _signature_names(fn: Callable[..., Any]) -> tuple[str, ...]:
    try:
        return tuple(name for name in CONTEXT if name in inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return ()
