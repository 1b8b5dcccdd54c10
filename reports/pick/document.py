"""A pick as headings, paragraphs and grids, and as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text, names_of
from bakeoff.reports.pick.candidates import Candidate
from bakeoff.reports.pick.pick import Pick
from bakeoff.reports.pick.values import Value
from bakeoff.reports.units import human, spread
from bakeoff.reports.words import describe, plural

__all__ = ["document", "to_json"]

_MOST = 10
_ESTIMATED = (
    "N = {} was not measured. Numbers marked ≈ lie on a line through the two nearest lengths in "
    "logarithms: they have no interval, and a kernel may change its way in between. --measure "
    "measures this length."
)
_HIDDEN = ("seed", "inputs", "value_dim")


def document(pick: Pick) -> Iterator[Block]:
    """The blocks of a pick."""
    yield Heading(1, "bakeoff pick")
    case = {axis: value for axis, value in pick.situation.items() if axis not in _HIDDEN}
    yield Text((f"Asked for: {pick.request.kind}, N = {pick.request.seq_len}, ", describe(case)
                + "".join(_limits(pick)), "."))  # fmt: skip
    yield Text(tuple(_machine(pick)))
    if pick.estimated:
        yield Text((_ESTIMATED.format(pick.request.seq_len),))
    if pick.taken is None:
        yield Heading(2, "Nothing keeps every limit")
    else:
        yield Heading(2, f"Take {pick.taken.rival}")
        yield Items(tuple(_reasons(pick, pick.taken)))
    if pick.fitting[1:]:
        yield from _runners_up(pick)
    yield from _ruled_out(pick)
    if pick.unmeasured:
        yield Heading(2, f"Not measured on this machine ({len(pick.unmeasured)})")
        yield Text((*_some(pick.unmeasured, 12), ". --measure measures them, too."))


def to_json(pick: Pick) -> str:
    """Everything, as one JSON object."""
    data = {
        "request": {
            "kind": pick.request.kind,
            "seq_len": pick.request.seq_len,
            "max_memory": pick.request.max_memory,
            "max_approximation_error": pick.request.max_approximation_error,
            "min_accuracy": dict(pick.request.min_accuracy),
        },
        "case": dict(pick.situation),
        "machine": dict(pick.machine),
        "pick": pick.taken.rival if pick.taken else None,
        "tied": list(pick.tied),
        "estimated": pick.estimated,
        "fitting": [_plain(candidate) for candidate in pick.fitting],
        "ruled_out": [_plain(candidate) for candidate in pick.ruled_out],
        "unmeasured": list(pick.unmeasured),
        "environments_left_out": pick.elsewhere,
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(candidate: Candidate) -> dict[str, Any]:
    values = {name: getattr(candidate, name) for name in ("ratio", "time", "peak")}
    return {
        "forward": candidate.rival,
        "baseline": candidate.baseline,
        **{name: vars(value) if value else None for name, value in values.items()},
        "remarks": list(candidate.remarks),
        "ruled_out_by": [vars(ruling) for ruling in candidate.out],
    }


def _limits(pick: Pick) -> Iterator[str]:
    request = pick.request
    if request.max_memory is not None:
        yield f", at most {human(request.max_memory, 'bytes')}"
    if request.max_approximation_error is not None:
        yield f", an approximation error of at most {request.max_approximation_error:g}"
    for task, least in request.min_accuracy.items():
        yield f", an accuracy on {task} of at least {least:g}"


def _machine(pick: Pick) -> Iterator[str]:
    yield "Measured on this machine: "
    shown = ("cpu", "device", "torch")
    yield Code(", ".join(str(pick.machine[name]) for name in shown if pick.machine.get(name)))
    yield "."
    if pick.elsewhere:
        yield f" Left out: {plural(pick.elsewhere, 'other environment')} in the file."


def _reasons(pick: Pick, taken: Candidate) -> Iterator[tuple[str, ...]]:
    count = len(pick.fitting)
    what = "the only one that keeps every limit" if count == 1 else f"the fastest of {count}"
    yield (f"{what}: {_shown(taken.time, 's')}, ", *_against(taken))
    if pick.tied:
        yield ("no measurable difference to ", *_some(pick.tied, 4))
    if taken.peak:
        yield (f"it holds {_shown(taken.peak, 'bytes')} at the most",)
    for remark in taken.remarks:
        yield (remark,)
    metadata = pick.request.variants[taken.variant]
    yield (metadata.summary,)
    yield ("use it when: ", metadata.use_when)
    yield ("weaknesses: ", "; ".join(metadata.weaknesses))


def _against(candidate: Candidate) -> tuple[str, ...]:
    if candidate.label == candidate.baseline:
        return ("the baseline itself",)
    return (f"{_shown(candidate.ratio, '')} of ", Code(candidate.baseline))


def _runners_up(pick: Pick) -> Iterator[Block]:
    others = pick.fitting[1:]
    yield Heading(2, f"Runners-up ({len(others)})")
    yield Grid(
        ("forward", "ratio", "time", "peak memory"),
        tuple(
            (Code(c.rival), _shown(c.ratio, ""), _shown(c.time, "s"), _shown(c.peak, "bytes"))
            for c in others[:_MOST]
        ),
    )
    if others[_MOST:]:
        yield Text((f"And {len(others) - _MOST} slower ones.",))


def _ruled_out(pick: Pick) -> Iterator[Block]:
    if not pick.ruled_out:
        return
    yield Heading(2, f"Ruled out ({len(pick.ruled_out)})")
    rules: dict[str, list[str]] = {}
    for candidate in pick.ruled_out:
        rule = "; ".join(ruling.rule for ruling in candidate.out)
        found = ", ".join(ruling.found for ruling in candidate.out if ruling.found)
        told = f"{candidate.rival} ({found})" if found else candidate.rival
        rules.setdefault(rule, []).append(told)
    yield Items(tuple((Code(rule), ": ", *_some(told, 6)) for rule, told in rules.items()))


def _shown(value: Value | None, unit: str) -> str:
    if value is None:
        return "-"
    told = ("≈ " if value.estimated else "") + human(value.value, unit)
    if value.low is None or value.high is None or value.low == value.high:
        return told
    return f"{told} {spread(value.value, value.low, value.high)}"


def _some(names: tuple[str, ...] | list[str], most: int) -> Iterator[str]:
    yield from names_of(names[:most])
    if len(names) > most:
        yield f" and {len(names) - most} more"
