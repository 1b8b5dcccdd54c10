"""How a variant is used in code, as a program that runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bakeoff.registry.binding import draw, takes
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Variant
from bakeoff.reports.rows import Row

__all__ = ["usage"]

_FEATURES = 256
#: Where nothing was measured: what every attention can do.
_SHAPE = Shape(batch=1, heads=4, kv_heads=4, q_len=128, k_len=128, head_dim=64, value_dim=64)
_GRID = ((8, 16),)


def usage(variant: Variant, rows: Sequence[Row]) -> str:
    """A program that makes the module and calls it once, with the sizes that were measured."""
    return "\n".join(_lines(variant, rows))


def _lines(variant: Variant, rows: Sequence[Row]) -> Iterator[str]:
    name, forward = variant.name, _forward(variant, rows)
    attention = variant.kind == "attention"
    shape = _shape(variant, rows) if attention else _FEATURES
    yield "import torch"
    yield "import bakeoff"
    yield ""
    if isinstance(shape, Shape):
        sizes = ", ".join(f"{n}={getattr(shape, n)}" for n in _SIZES)
        yield f"shape = bakeoff.Shape({sizes})"
    made = "shape" if attention else str(shape)
    yield f'{name} = bakeoff.module(bakeoff.load()["{name}"], {made}, forward="{forward}")'
    keywords = ""
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


def _shape(variant: Variant, rows: Sequence[Row]) -> Shape:
    """The sizes of a race, else usual ones."""
    for row in rows:
        if row.metric == "ratio" and row.axes["pattern"] == "self":
            sizes = {size: row.axes[size] for size in _SIZES}
            return Shape(**sizes, grid=_GRID if row.axes["grid"] else None)
    return _SHAPE
