"""A variant in words: what its shapes, tensors, forwards and identities are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakeoff.registry.variants import Forward, Identity, Variant

__all__ = ["forward_told", "identity_told", "said", "shapes", "tensors"]

#: What goes in and what comes out, by kind.
_SHAPES = {
    "activation": ("x (..., F) -> y (..., F)",),
    "attention": (
        "q (B, H, Nq, D), k (B, H, Nk, D), v (B, H, Nk, Dv) -> o (B, H, Nq, Dv)",
        "mask bool, broadcasts to (B, H, Nq, Nk), True where a query may attend",
        "causal is aligned at the lower right, as with a KV cache",
    ),
    "connection": ("x (..., F), branch: a callable (..., F) -> (..., F) -> y (..., F)",),
}


def shapes(variant: Variant) -> tuple[str, ...]:
    """What goes in and what comes out."""
    if getattr(variant, "gated", False):
        return ("x (..., F) -> y (..., F/2), F even",)
    return _SHAPES[variant.kind]


def tensors(variant: Variant) -> Iterator[str]:
    """The declared tensors at small sizes, for their names and how their shapes come about."""
    from bakeoff.registry.binding import draw, takes
    from bakeoff.registry.shapes import Shape

    grid = ((4, 4),) if takes(variant, "grid") else None
    size = Shape(1, 2, 2, 16, 16, 8, 8, grid) if variant.kind == "attention" else 8
    where = "at H = 2, D = 8" if variant.kind == "attention" else "at F = 8"
    for source in ("parameters", "inputs", "noise"):
        for name, tensor in draw(variant, source, size, None, variant.options).items():
            yield f"{source}: {name} {tuple(tensor.shape)} {where}"


def forward_told(variant: Variant, name: str) -> str:
    """What a forward is by its docstring, how its costs grow, and which masks it obeys."""
    forward: Forward = variant.forward(name)
    doc = " ".join((forward.fn.__doc__ or "").split("\n\n")[0].split())
    notes = []
    if forward.complexity:
        notes.append(f"FLOPs ~ {forward.complexity}")
    if forward.memory:
        notes.append(f"memory ~ {forward.memory}")
    if variant.kind == "attention":
        notes.append({"none": "no masks", "keys": "key masks", "full": "any mask"}[forward.masks])
    if not forward.backward:
        notes.append("no backward")
    told = f" [{', '.join(notes)}]" if notes else ""
    return f"{name}: {doc}{told}" if doc else f"{name}{told}"


def said(value: object) -> str:
    """A declared property in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def identity_told(identity: Identity) -> str:
    """What an identity says, and what the variant then equals."""
    equals = identity.equals if isinstance(identity.equals, str) else "a given function"
    return f"{identity.name}: equals {equals}"
