"""What an interval says: faster, slower, no difference above the noise, or undecided."""

from __future__ import annotations

__all__ = ["difference"]


def difference(low: float | None, high: float | None, floor: float | None) -> str:
    """What a ratio's interval says about a rival and its baseline, above the noise of the race.

    Args:
        low: Lower end of the interval.
        high: Upper end.
        floor: How far from 1 two equals come out, as a ratio; None counts as 1.

    Returns:
        ``faster`` or ``slower`` where the interval lies beyond the floor, ``no difference``
        where it lies within, ``undecided`` where it does neither.

    Example:
        >>> difference(0.8, 0.9, 1.03), difference(0.98, 1.02, 1.03), difference(0.9, 1.2, 1.03)
        ('faster', 'no difference', 'undecided')
    """
    if low is None or high is None:
        return ""
    floor = floor or 1.0
    if high < 1 / floor:
        return "faster"
    if low > floor:
        return "slower"
    return "no difference" if 1 / floor <= low and high <= floor else "undecided"
