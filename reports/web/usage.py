"""How a variant is used in code, as a program that runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from bakeoff.registry.binding import draw, takes
from bakeoff.registry.shapes import Case, Shape
from bakeoff.registry.variants import Variant
from bakeoff.reports.rows import Row

__all__ = ["usage"]

_FEATURES = 256
_SHAPE = Shape(batch=1, heads=4, kv_heads=4, q_len=128, k_len=128, head_dim=64, value_dim=64)
#: What is tried until the variant takes it.
_PATTERNS, _KEY_HEADS, _GRIDS = ("self", "causal_self"), (4, 2, 1), (None, ((8, 16),))


def usage(variant: Variant, rows: Sequence[Row]) -> str:
    """A program that makes the module and calls it once, by the forward that was fastest."""
    return "\n".join(_lines(variant, rows))


def _lines(variant: Variant, rows: Sequence[Row]) -> Iterator[str]:
    name, forward = variant.name, _forward(variant, rows)
    attention = variant.kind == "attention"
    pattern, shape = _case(variant, forward) if attention else ("", _FEATURES)
    yield "import torch"
    yield "import bakeoff"
    yield ""
    if isinstance(shape, Shape):
        sizes = ", ".join(f"{n}={getattr(shape, n)}" for n in _SIZES)
        yield f"shape = bakeoff.Shape({sizes})"
    made = "shape" if attention else str(shape)
    yield f'{name} = bakeoff.module(bakeoff.load()["{name}"], {made}, forward="{forward}")'
    keywords = ", causal=True" if pattern == "causal_self" else ""
    for tensor, value in draw(variant, "inputs", shape, None, variant.options).items():
        size = ", ".join(map(str, value.shape))
        yield f"{tensor} = torch.rand({size})  # given by the data or by other layers"
        keywords += f", {tensor}={tensor}"
    yield from _call(variant, shape, keywords)


_SIZES = ("batch", "heads", "kv_heads", "q_len", "k_len", "head_dim", "value_dim")


def _call(variant: Variant, shape: Shape | int, keywords: str) -> Iterator[str]:
    name = variant.name
    if isinstance(shape, Shape):
        b, h, g, n, m, d, e = (getattr(shape, size) for size in _SIZES)
        yield f"q = torch.randn({b}, {h}, {n}, {d})"
        yield f"k, v = torch.randn({b}, {g}, {m}, {d}), torch.randn({b}, {g}, {m}, {e})"
        grid = f", grid={shape.grid}" if shape.grid else ""
        yield f"o = {name}(q, k, v{grid}{keywords})  # ({b}, {h}, {n}, {e})"
    elif variant.kind == "activation":
        yield f"y = {name}(torch.randn(8, {shape}){keywords})"
    else:
        yield f"branch = torch.nn.Linear({shape}, {shape})"
        more = "".join(f", {n}={text}" for n, text in _CONTEXT.items() if takes(variant, n))
        yield f"y = {name}(torch.randn(8, {shape}), branch{more}{keywords})"


#: What a connection may ask for of the stack in which it stands.
_CONTEXT = {"layer": "0", "depth": "12", "history": "[]"}


def _forward(variant: Variant, rows: Sequence[Row]) -> str:
    """The one that was fastest in the longest race, else the reference."""
    races = [
        (row.axes["seq_len"], -row.value, row.axes["forward"])
        for row in rows
        if row.metric == "ratio"
        and row.value is not None
        and row.axes["forward"] in variant.forwards
        and row.axes["grid"] is None
        and row.axes["direction"] != "forward"
    ]
    return max(races)[2] if races else "reference"


def _case(variant: Variant, forward: str) -> tuple[str, Shape]:
    """The first pattern and sizes that the forward takes."""
    for pattern, heads, grid in product(_PATTERNS, _KEY_HEADS, _GRIDS):
        shape = replace(_SHAPE, kv_heads=heads, grid=grid)
        case = Case(kind="attention", shape=shape, pattern=pattern, options=variant.options)
        if not (variant.excluded(case) or variant.forward(forward).why_not(case)):
            return pattern, shape
    return _PATTERNS[0], _SHAPE
