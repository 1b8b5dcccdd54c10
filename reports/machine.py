"""What the machine can do, as its ceilings were measured: one line a device, dtype and threads."""

from __future__ import annotations

from collections.abc import Iterable

from bakeoff.reports.rows import Row
from bakeoff.reports.units import human
from bakeoff.reports.words import plural

__all__ = ["KIND", "ceilings"]

#: The kind under which the ceilings are stored: they belong to no variant.
KIND = "machine"


def ceilings(rows: Iterable[Row]) -> list[str]:
    """The fastest matrix product, and copies from the smallest to the largest."""
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        axes = row.axes
        if axes["kind"] == KIND and row.value is not None:
            found.setdefault((axes["device"], axes["dtype"], axes["threads"]), []).append(row)
    return [
        f"{device}, {dtype}, {plural(threads, 'thread')}: {_told(group)}"
        for (device, dtype, threads), group in found.items()
    ]


def _told(rows: list[Row]) -> str:
    products = [row.value for row in rows if row.metric == "flops_per_second" and row.value]
    copies = sorted((r.axes["features"], r.value) for r in rows if r.unit == "bytes/s" and r.value)
    told = [f"matrix products {human(max(products), 'FLOP/s')}"] if products else []
    if copies:
        rates = [human(rate, "bytes/s") for _, rate in copies]
        told.append(f"copies {', '.join(rates)}, from what fits in the caches to what does not")
    return "; ".join(told)
