"""Pictures of coloured shapes, drawn here, so that what is in them is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["COLOURS", "SHAPES", "draw"]

#: Red, green and blue.
COLOURS = ("red", "green", "blue")
#: A filled square, a disc and a cross.
SHAPES = ("square", "disc", "cross")


def draw(
    size: int, colours: Sequence[int], shapes: Sequence[int], boxes: Sequence[tuple[float, ...]]
) -> torch.Tensor:
    """A picture (3, size, size) on black.

    Args:
        size: Pixels of a side.
        colours: Of each shape, places in :data:`COLOURS`.
        shapes: Of each shape, places in :data:`SHAPES`.
        boxes: Of each shape (centre x, centre y, width, height), as shares of the side.
    """
    picture = torch.zeros(3, size, size)
    places = (torch.arange(size) + 0.5) / size
    for colour, shape, (x, y, width, height) in zip(colours, shapes, boxes, strict=True):
        across = ((places - x) / (width / 2))[None, :].expand(size, size)
        down = ((places - y) / (height / 2))[:, None].expand(size, size)
        inside = (across.abs() <= 1) & (down.abs() <= 1)
        if SHAPES[shape] == "disc":
            inside = across.square() + down.square() <= 1
        if SHAPES[shape] == "cross":
            inside = inside & ((across.abs() <= 1 / 3) | (down.abs() <= 1 / 3))
        picture[:, inside] = 0.0
        picture[colour, inside] = 1.0
    return picture
