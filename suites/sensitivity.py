"""Whether every argument of a forward has an effect: each is changed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from bakeoff.registry.binding import draw
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, largest_of, right_if

__all__ = ["REFUSED", "arguments_matter", "other_values"]

#: What a forward raises for a value that an option does not allow; another is tried then.
REFUSED = (RuntimeError, ValueError, ArithmeticError, LookupError)
#: Other values of each number in a tuple.
MOST_OTHERS = 2


def arguments_matter(subject: Subject) -> Verdict:
    """Every argument changes the output, unless the metadata declares it unused."""
    unused = subject.variant.metadata.unused
    effect: dict[str, bool] = {}
    unknown = _without_other_values(subject)
    # With noise and without: a branch that is dropped now has its effect when it is not.
    for direction in ("training", "forward") if subject.forward.backward else ("forward",):
        base = _with_noise(subject, subject.arguments("", direction).off_start(subject.seed))
        before = subject.output(base)
        for name, alternatives in _alternatives(subject, base).items():
            if name in unknown:
                continue
            differs = any(_differs(subject, before, changed) for changed in alternatives)
            differs = differs or _matters_elsewhere(subject, base, name)
            effect[name] = differs or effect.get(name, False)
    without_effect = [n for n, differs in effect.items() if not differs and n not in unused]
    with_effect = [n for n, differs in effect.items() if differs and n in unused]
    faults = []
    if without_effect:
        faults.append(f"no effect: {', '.join(without_effect)} (use it, or declare it unused)")
    if with_effect:
        faults.append(f"declared unused, but has an effect: {', '.join(with_effect)}")
    if unknown and not faults:
        raise Unsupported(
            f"no other value is known of {', '.join(unknown)}: declare some in option_values; all "
            "other arguments have the effect that is declared"
        )
    return right_if(not faults, "; ".join(faults))


def _without_other_values(subject: Subject) -> list[str]:
    """Options of which it can't be tried whether they have an effect."""
    size = _size(subject)
    return [n for n in subject.variant.options if not other_values(subject.variant, n, size)]


def _size(subject: Subject) -> Shape | int:
    shape = subject.case().shape
    return shape if isinstance(shape, Shape) else shape.features


def _with_noise(subject: Subject, base: Arguments) -> Arguments:
    """The arguments with noise that can be drawn again: an option may act through it alone."""
    options = {name: base.plain[name] for name in subject.variant.options}
    return base.replacing(_noise(subject, base, options))


def _noise(subject: Subject, base: Arguments, options: Mapping[str, Any]) -> dict[str, Any]:
    """The noise under these options, as it lies in memory; none where there is none."""
    generator = torch.Generator().manual_seed(subject.seed)
    drawn = draw(subject.variant, "noise", _size(subject), generator, options)
    given = {n for n, tensor in base.fixed.items() if tensor is not None}
    return {n: _like(tensor, base) for n, tensor in drawn.items() if n in given}


def _like(tensor: torch.Tensor, base: Arguments) -> torch.Tensor:
    """A tensor, in the dtype and on the device of the data."""
    first = next(iter(base.data.values()))
    tensor = tensor.detach().to(first.device)
    return tensor.to(first.dtype) if tensor.is_floating_point() else tensor


def _alternatives(subject: Subject, base: Arguments) -> dict[str, Iterator[Arguments]]:
    """For each argument, arguments that differ in it alone."""
    found: dict[str, Iterator[Arguments]] = {}
    for name in subject.variant.options:
        found[name] = _under_other_options(subject, base, name)
    for group in ("data", "learned", "given", "fixed"):
        for name, tensor in getattr(base, group).items():
            if isinstance(tensor, torch.Tensor):
                found[name] = _other_tensors(base, name, tensor)
    if base.branch is not None:
        found["branch"] = iter([base.replacing({"branch": -base.branch})])
    if subject.is_attention:
        if subject.grid:
            found["grid"] = iter([_transposed(base)])
        found["scale"] = iter([base.having(scale=0.03)])
        if _can(subject, "causal_self"):
            found["causal"] = iter([base.having(causal=True)])
        if subject.forward.masks != "none":
            mask = torch.ones(1, 1, 1, base.data["k"].shape[2], dtype=torch.bool)
            mask[..., 1::2] = False
            found["mask"] = iter([base.having(mask=mask.to(subject.device))])
    return found


def _transposed(base: Arguments) -> Arguments:
    grid = tuple((width, height) for height, width in base.context["grid"])
    return replace(base, context={**base.context, "grid": grid})


def _under_other_options(subject: Subject, base: Arguments, name: str) -> Iterator[Arguments]:
    """The same arguments with another value of an option, and what is declared under it.

    Parameters and noise are drawn again; inputs only where their size depends on the option.
    """
    size, known = _size(subject), dict(base.tensors())
    for value in other_values(subject.variant, name, size):
        options = {n: base.plain[n] for n in subject.variant.options} | {name: value}
        generator = torch.Generator().manual_seed(subject.seed)
        try:
            drawn = draw(subject.variant, "parameters", size, generator, options)
            for other, tensor in draw(subject.variant, "inputs", size, generator, options).items():
                if other in known and tensor.shape != known[other].shape:
                    drawn[other] = tensor
            noise = _noise(subject, base, options)
        except REFUSED:
            continue
        like = {n: _like(tensor, base) for n, tensor in drawn.items()} | noise
        yield base.replacing(like).off_start(subject.seed).having(**{name: value})


def _matters_elsewhere(subject: Subject, base: Arguments, name: str) -> bool:
    """Whether an argument has an effect under another value of an option.

    A window that spans the small sizes hides what is said of the keys beyond it.
    """
    for other in subject.variant.options:
        for elsewhere in _under_other_options(subject, base, other) if other != name else ():
            try:
                before = subject.output(elsewhere)
            except REFUSED:
                continue
            if not bool(before.isfinite().all()):
                continue  # nor is this a value that the option allows
            alternatives = _alternatives(subject, elsewhere)[name]
            if any(_differs(subject, before, changed) for changed in alternatives):
                return True
    return False


def _can(subject: Subject, pattern: str) -> bool:
    try:
        subject.case(pattern)
    except Unsupported:
        return False
    return True


def other_values(variant: Variant, name: str, size: Shape | int) -> tuple[Any, ...]:
    """Values that an option could take as well; the forward may refuse them.

    Those that the variant declares; else those that its identities name, and others of the type
    of the default. Of a text, and of None, nobody but the author knows any.
    """
    default = variant.options[name]
    known = variant.option_values.get(name) or (
        *_named_by_identities(variant, name, size),
        *_others_of_type(default),
    )
    return tuple(dict.fromkeys(value for value in known if value != default))


def _named_by_identities(variant: Variant, name: str, size: Shape | int) -> Iterator[Any]:
    for identity in variant.identities:
        for options in (identity.options, identity.unless):
            with suppress(UnsupportedError):  # it says nothing of this shape
                named = options(size) if options else {}
                if name in named:
                    yield named[name]


def _others_of_type(value: Any) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (1, 2, 0, value + 1, value * 2)
    if isinstance(value, float):
        return (value / 2, value + 0.37, value * 2 + 1, -value)
    if isinstance(value, tuple):
        return tuple(
            (*value[:i], other, *value[i + 1 :])
            for i in reversed(range(len(value)))
            for other in _others_of_type(value[i])[:MOST_OTHERS]
        )
    return ()


def _other_tensors(base: Arguments, name: str, tensor: torch.Tensor) -> Iterator[Arguments]:
    generator = torch.Generator().manual_seed(1)
    if tensor.is_floating_point():
        change = torch.randn(tensor.shape, generator=generator).to(tensor)
        yield base.replacing({name: tensor - change})  # a threshold may lie on either side
        new = tensor + change
    elif tensor.dtype == torch.bool:
        new = ~tensor
    else:
        new = tensor.flip(tuple(range(tensor.dim())))  # in a row of a set order means nothing
    yield base.replacing({name: new})


def _differs(subject: Subject, before: torch.Tensor, changed: Arguments) -> bool:
    try:
        after = subject.output(changed)
    except REFUSED:
        return False
    if after.shape != before.shape:
        return True
    return largest_of(after.double() - before.double()) > 0
