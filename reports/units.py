"""Numbers as people read them."""

from __future__ import annotations

import math

__all__ = ["human", "interval", "number", "spread"]

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def number(value: float) -> str:
    """Three significant digits.

    Example:
        >>> number(1.2345), number(1024.0), number(0.000012)
        ('1.23', '1024', '1.20e-05')
    """
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else "not a number"
    size = abs(value)
    if value == 0:
        return "0"
    if 99.95 <= size < 100_000:
        return f"{value:.0f}"
    return f"{value:#.3g}" if 0.001 <= size < 100 else f"{value:.2e}"


def human(value: float, unit: str) -> str:
    """A value with its unit, scaled to the prefix that reads best.

    Example:
        >>> human(0.000312, "s"), human(2.5 * 2**20, "bytes"), human(1.05, "")
        ('312 µs', '2.50 MiB', '1.05')
        >>> human(1.1e11, "FLOP/s"), human(4.4e10, "bytes/s"), human(3e4, "1/s")
        ('110 GFLOP/s', '44.0 GB/s', '30.0 k/s')
    """
    if unit in ("FLOP/s", "bytes/s", "1/s"):
        size, prefix = next((r for r in _RATES if abs(value) >= r[0]), _RATES[-1])
        return f"{number(value / size)} {prefix}{unit.replace('bytes', 'B').removeprefix('1')}"
    scales = {"s": _SECONDS, "bytes": _BYTES}.get(unit)
    if scales is None:
        return f"{number(value)} {unit}".rstrip()
    if value == 0:
        return "0 s" if unit == "s" else "0 B"
    size, name = next((s for s in scales if abs(value) >= s[0]), scales[-1])
    if name == "B":
        return f"{value:.0f} B"
    return f"{number(value / size)} {name}"


def interval(low: float, high: float, unit: str) -> str:
    """Both ends of an interval.

    Example:
        >>> interval(0.000312, 0.00045, "s")
        '312 µs to 450 µs'
    """
    return f"{human(low, unit)} to {human(high, unit)}"


def spread(value: float, low: float, high: float) -> str:
    """The wider side of the interval of a positive value, as a share of it.

    Example:
        >>> spread(1.0, 0.98, 1.01), spread(1.0, 1.0, 1.0)
        ('±2%', '±0%')
    """
    if not (low > 0 and value > 0):
        return ""
    share = 100 * (max(high / value, value / low) - 1)
    return f"±{share:.0f}%" if share >= 1 or share == 0 else f"±{max(share, 0.1):.1f}%"
