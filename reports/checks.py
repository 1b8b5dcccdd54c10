"""The checks of every forward in one matrix: a symbol each, and the reason on hovering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bakeoff.reports.blocks import Block, Code, Grid, Heading, OnPage, Text, Told
from bakeoff.reports.contents import Kind
from bakeoff.reports.rows import Row
from bakeoff.reports.verdicts import Checks

__all__ = ["SYMBOLS", "matrix"]

#: A sign for each status, so that colour is never needed to tell them apart.
SYMBOLS = {"ok": "✓", "wrong": "✗", "failed": "!", "crashed": "!", "timeout": "!", "oom": "!",
           "unsupported": "–", "unverified": "○", "undetermined": "?"}  # fmt: skip


def matrix(kind: Kind) -> Iterator[Block]:
    """A row a forward, a column a check; identities, which differ by variant, in one column."""
    labels = list(dict.fromkeys(label for c in kind.checks.values() for label, _ in c.worst))
    single = [(sort, name) for sort in ("probes", "properties") for name in _names(kind, sort)]
    if not labels:
        return
    identities = kind.checks.get("identities") or Checks({})
    told = (
        "✓ passed, ✗ failed, ! could not be finished, – the variant says that it can't, blank: no "
        "such check, ? the reference is too far off in a dtype to judge by, ○ there is nothing to "
        "compare with. Of several dtypes and shapes the worst stands. Hovering shows the reason; "
        "the failures stand below as text, and all checks in the card of the variant."
    )
    headers = [name.replace("_", " ") for _, name in single]
    rows = tuple(
        (
            Code(label),
            *(_sign(kind.checks[sort].worst.get((label, name))) for sort, name in single),
            _identities(identities, label),
        )
        for label in labels
    )
    grid = Grid(("forward", *headers, "identities"), rows, narrow=True)
    yield OnPage((Heading(3, "Checks one by one"), Text((told,)), grid))


def _names(kind: Kind, sort: str) -> Sequence[str]:
    return kind.checks[sort].names if sort in kind.checks else ()


def _sign(row: Row | None) -> str:
    if row is None:
        return ""
    tip = f"{row.metric.replace('_', ' ')}: {row.status}" + (
        f", {row.reason}" if row.reason else ""
    )
    return Told(SYMBOLS[row.status], value=-float(row.severity), tip=tip, status=row.status)


def _identities(checks: Checks, label: str) -> str:
    own = {name: row for (of, name), row in checks.worst.items() if of == label}
    count = checks.count(label)
    if not count.made:
        return ""
    tip = "; ".join(f"{name}: {row.status}" for name, row in own.items())
    passed = count.made - count.failed
    status = "wrong" if count.failed else "ok"
    return Told(f"{passed}/{count.made}", value=float(-count.failed), tip=tip, status=status)
