"""Which variant stands in which place of a model, in which forward and with which options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.shapes import Case
from bakeoff.registry.variants import Variant
from bakeoff.suites.tensors import arguments_for, why_not

__all__ = ["Part", "Parts", "fast_forward", "usual_parts", "visible_options"]

#: What stands in the places of which no variant is looked at.
USUAL = {
    "attention": ("scaled_dot_product", "sdpa"),
    "activation": ("gelu", "torch"),
    "connection": ("residual", "reference"),
}
#: An option that reaches beyond the whole sequence is set to this share of it.
VISIBLE = 8


@dataclass(frozen=True)
class Part:
    """A variant, ready to be put in its place.

    Args:
        variant: The variant.
        forward: Which of its forwards runs.
        options: Options that differ from their defaults.
    """

    variant: Variant
    forward: str = "reference"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What stands in the places of a model.

    Args:
        attention: In every attention layer.
        activation: In every feed-forward block, or between the layers of an MLP.
        connection: About every layer.
        norm: Whether what goes into a layer is normalised; a connection that normalises by itself
            (tag ``norm``) gets no second one.
    """

    attention: Part
    activation: Part
    connection: Part
    norm: bool = True

    def having(self, part: Part) -> Parts:
        """The same with one part in the place of its kind."""
        changed: dict[str, Any] = {part.variant.kind: part}
        return replace(self, **changed)


def usual_parts(catalog: Catalog, *, norm: bool = True) -> Parts:
    """Softmax attention, GELU and the residual connection."""
    usual = {kind: Part(catalog[name], forward) for kind, (name, forward) in USUAL.items()}
    return Parts(**usual, norm=norm)


def fast_forward(variant: Variant, cases: Sequence[Case]) -> str:
    """The forward to train with: the first beside the reference that runs all of ``cases``, else
    the reference.
    """
    others = (name for name in variant.forwards if name != "reference")
    fast = (name for name in others if not any(why_not(variant, name, case) for case in cases))
    return next(fast, "reference")


def visible_options(variant: Variant, case: Case) -> dict[str, int]:
    """Smaller values for defaults that reach beyond the whole sequence, as a window of 128.

    An option of N or more that makes no difference when it is doubled would hide what the variant
    does: it becomes N/8. Others, as a number of features, are left alone.
    """
    length = case.attention_shape.k_len
    options, found = dict(case.options), {}
    for name, value in options.items():
        given = isinstance(value, int) and value == variant.options[name]
        if given and value >= length and _same(variant, case, {**options, name: 2 * value}):
            found[name] = max(1, length // VISIBLE)
    return found


def _same(variant: Variant, case: Case, options: Mapping[str, Any]) -> bool:
    fn = variant.forward("reference").fn
    changed = replace(case, options=options)
    with torch.no_grad():
        try:
            outputs = [arguments_for(variant, c).call(fn) for c in (case, changed)]
        except (RuntimeError, ValueError, ArithmeticError, LookupError):
            return False  # a value that the option does not allow
    return torch.equal(*outputs)
