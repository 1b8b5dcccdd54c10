"""Grids of feature maps: how they are named, and which one holds so many positions."""

from __future__ import annotations

import math
import re

from bakeoff.registry.errors import UsageError

__all__ = ["NO_GRID", "ON_GRIDS", "Grid", "grid_of", "positions", "resized"]

#: The (height, width) of each level.
Grid = tuple[tuple[int, int], ...]

#: The plain sequence, for forwards that take a grid as for all others.
NO_GRID = "none"
#: Patterns in which k and v may come from a grid; a grid has no order that could be causal.
ON_GRIDS = ("self", "cross")
_LEVEL = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def grid_of(name: str, n: int) -> Grid | None:
    """The grid called ``name``, for a sequence of ``n`` positions.

    Args:
        name: ``none``; ``square``, n positions in one level as near to a square as n allows;
            ``pyramid``, the same and a second level of half its height and width; or the height
            and width of each level, whatever n is.
        n: The length.

    Raises:
        UsageError: For any other name.

    Example:
        >>> grid_of("square", 96), grid_of("pyramid", 96), grid_of("4x6+2x3", 96)
        (((8, 12),), ((8, 12), (4, 6)), ((4, 6), (2, 3)))
    """
    if name == NO_GRID:
        return None
    height = next(h for h in range(math.isqrt(n), 0, -1) if n % h == 0)
    width = n // height
    if name == "square":
        return ((height, width),)
    if name == "pyramid":
        return ((height, width), (max(1, height // 2), max(1, width // 2)))
    levels = [_LEVEL.fullmatch(level.strip()) for level in name.split("+")]
    if not all(levels):
        raise UsageError(
            f"grids: got {name!r}, expected none, square, pyramid, or the height and width of "
            "each level such as 8x12 or 8x12+4x6"
        )
    return tuple((int(level[1]), int(level[2])) for level in levels if level)


def positions(grid: Grid) -> int:
    """How many positions its levels hold together.

    Example:
        >>> positions(((8, 12), (4, 6)))
        120
    """
    return sum(height * width for height, width in grid)


def resized(grid: Grid, n: int) -> Grid:
    """As many levels for ``n`` positions: exactly n in one level, about n in several.

    Example:
        >>> resized(((8, 12),), 24), resized(((8, 12), (4, 6)), 30)
        (((4, 6),), ((4, 6), (2, 3)))
    """
    if len(grid) == 1:
        return grid_of("square", n) or ()
    ratio = math.sqrt(n / positions(grid))
    return tuple((max(1, round(h * ratio)), max(1, round(w * ratio))) for h, w in grid)
