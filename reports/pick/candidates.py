"""Everything that is known of each forward at the case that is asked for, and what rules it out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bakeoff.registry.errors import UsageError
from bakeoff.reports.pick.request import Request
from bakeoff.reports.pick.values import Value, value_at
from bakeoff.reports.rows import Row, plain
from bakeoff.reports.units import human, number
from bakeoff.reports.verdicts import COMPARED
from bakeoff.suites.records import CELL_METRIC

__all__ = ["Candidate", "Ruling", "candidates_of", "situation_of"]

#: Axes that must have one value among the rows, unless one is asked for. How many key heads there
#: are is no such axis: a grouped variant has fewer, and is raced against the same baseline.
_FREE = ("batch", "heads", "head_dim", "value_dim", "features", "threads", "seed")
_METRICS = ("ratio", "time", "noise_floor", "peak_bytes", CELL_METRIC)


@dataclass(frozen=True)
class Ruling:
    """What rules a forward out.

    Args:
        rule: What it breaks, the same for all that break it.
        found: What was found of this one; empty where the rule says it all.
    """

    rule: str
    found: str = ""


@dataclass(frozen=True)
class Candidate:
    """One forward at the case that is asked for.

    Args:
        variant: Its variant.
        label: ``variant:forward``.
        rival: The label, with the options that tell it apart.
        ratio: Its time as a ratio to the baseline.
        time: Its time, in seconds.
        floor: The noise floor of its race.
        peak: The most bytes that it holds at once.
        baseline: What the ratio is to.
        remarks: What a user should know, as that nothing independent confirms it.
        out: What rules it out; empty where nothing does.
    """

    variant: str
    label: str
    rival: str
    ratio: Value | None = None
    time: Value | None = None
    floor: float = 1.0
    peak: Value | None = None
    baseline: str = ""
    remarks: tuple[str, ...] = ()
    out: tuple[Ruling, ...] = ()


@dataclass
class _Found:
    """The rows of one rival: by metric and length."""

    control: bool
    rows: dict[str, dict[int, Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        known = self.rows.setdefault(row.metric, {}).get(row.axes["seq_len"])
        # Of two measurements of one cell that with more launches counts.
        if known is None or _launches(row) >= _launches(known):
            self.rows[row.metric][row.axes["seq_len"]] = row

    def at(self, metric: str, length: int) -> Value | None:
        return value_at(length, self.rows.get(metric, {}))


def situation_of(rows: Sequence[Row], request: Request) -> dict[str, Any]:
    """The axes that hold for every candidate: those asked for, and those that nobody varied.

    Raises:
        UsageError: Where the results hold several values of an axis that was not asked for.
    """
    fitting = [row for row in rows if row.axes["suite"] == "speed" and _fits(row, request.axes)]
    found = dict(request.axes)
    for axis in _FREE:
        values = {row.axes[axis] for row in fitting}
        if axis == "seed" and values:
            values = {min(values)}
        if axis not in found and len(values) > 1:
            told = ", ".join(map(str, sorted(values)))
            raise UsageError(
                f"the results hold several values of {axis.replace('_', ' ')} ({told}): say which "
                f"with --{axis.replace('_', '-')}"
            )
        if axis not in found and values:
            found[axis] = values.pop()
    return found


def candidates_of(
    rows: Sequence[Row], everything: Sequence[Row], wrong: Mapping[str, str], request: Request
) -> list[Candidate]:
    """Every forward of the variants that are asked for, the fastest first.

    Args:
        rows: The rows of this machine.
        everything: Those of all machines: what is wrong or right elsewhere is so here.
        wrong: Labels that are wrong, with what is.
        request: What is asked for.
    """
    axes = situation_of(rows, request)
    found: dict[tuple[str, str, str], _Found] = {}
    for row in rows:
        name = str(row.axes["variant"])
        if name in request.variants and row.axes["suite"] in ("speed", "memory"):
            own = found.setdefault((name, row.label, row.rival), _Found(row.control))
            if (
                _usual(row)
                and row.metric in _METRICS
                and row.axes["grid"] is None
                and _fits(row, axes)
            ):
                own.add(row)
    judging = _Judging(everything, wrong, request)
    candidates = [_candidate(key, own, judging, request) for key, own in found.items()]
    return sorted(candidates, key=lambda c: (c.ratio is None, c.ratio.value if c.ratio else 0.0))


def _candidate(
    key: tuple[str, str, str], found: _Found, judging: _Judging, request: Request
) -> Candidate:
    variant, label, rival = key
    n = request.seq_len
    ratio, peak = found.at("ratio", n), found.at("peak_bytes", n)
    refused = list(_refused(found, ratio, n))
    # Of what does not run there is nothing else to say.
    out = refused or [*judging.why_not(label, variant), *_costs(ratio, peak, request)]
    if found.control or request.variants[variant].control:
        out = [Ruling("a control, which is there to be compared with and never taken")]
    races = found.rows.get("ratio", {})
    floors = [row.value for row in found.rows.get("noise_floor", {}).values() if row.value]
    return Candidate(
        variant,
        label,
        rival,
        ratio,
        found.at("time", n),
        max(floors, default=1.0),
        peak,
        next((row.reason.removeprefix("to ") for row in races.values()), ""),
        tuple(judging.remarks(label)),
        tuple(out),
    )


def _refused(found: _Found, ratio: Value | None, length: int) -> Iterator[Ruling]:
    """Why it does not run here, or did not."""
    answers = found.rows.get(CELL_METRIC, {})
    whole = answers.get(length)
    if ratio is None and answers:  # what it refuses at one length it mostly refuses at another
        whole = whole or answers[max(answers)]
    if whole and (ratio is None or whole.failed):
        yield Ruling(f"{whole.status}: {whole.reason}")


def _costs(ratio: Value | None, peak: Value | None, request: Request) -> Iterator[Ruling]:
    """Whether its time is known, and its memory within the limit."""
    if ratio is None:
        yield Ruling(f"its time was not measured near N = {request.seq_len}")
    if request.max_memory is None:
        return
    if peak is None:
        yield Ruling("its peak memory was not measured")
    elif peak.value > request.max_memory:
        about = "≈ " if peak.estimated else ""
        rule = f"more memory than {human(request.max_memory, 'bytes')}"
        yield Ruling(rule, about + human(peak.value, "bytes"))


class _Judging:
    """What the suites that judge say, in the dtype that is asked for."""

    def __init__(self, rows: Iterable[Row], wrong: Mapping[str, str], request: Request) -> None:
        self.wrong, self.request = wrong, request
        self.judged: dict[tuple[str, str], list[Row]] = {}
        self.learnt: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            if row.metric == "task_accuracy":
                task = str(plain(row.axes["extra"] or "{}").get("task", ""))
                self.learnt.setdefault((str(row.axes["variant"]), task), []).append(row)
            elif row.axes["dtype"] == request.axes.get("dtype"):
                self.judged.setdefault((row.label, row.metric), []).append(row)

    def why_not(self, label: str, variant: str) -> Iterator[Ruling]:
        """What of it rules a forward out."""
        if label in self.wrong:
            yield Ruling("wrong", self.wrong[label])
            return
        dtype = self.request.axes.get("dtype")
        wanted = [("error_ratio", "it")]
        wanted += [("grad_error_ratio", "its gradient")] if self.request.training else []
        for metric, what in wanted:
            if not any(row.status in COMPARED for row in self.judged.get((label, metric), ())):
                yield Ruling(f"whether {what} is right in {dtype} was not measured")
        yield from self._far(label)
        yield from self._poor(variant)

    def remarks(self, label: str) -> Iterator[str]:
        """What a user should know of it."""
        rows = self.judged.get((label, "error_ratio"), [])
        errors = [row.value for row in rows if row.value is not None]
        if errors:
            yield f"right: an error ratio of at most {number(max(errors))}, where 2 passes"
        elif rows:
            yield f"{rows[0].status}: {rows[0].reason}"
        if (error := self._approximation(label)) is not None:
            yield f"an approximation, {100 * error:.3g}% away from what it stands for"

    def _far(self, label: str) -> Iterator[Ruling]:
        limit, error = self.request.max_approximation_error, self._approximation(label)
        if limit is not None and error is not None and error > limit:
            yield Ruling(f"an approximation error above {limit:g}", number(error))

    def _approximation(self, label: str) -> float | None:
        rows = self.judged.get((label, "approximation_error"), [])
        return max((row.value for row in rows if row.value is not None), default=None)

    def _poor(self, variant: str) -> Iterator[Ruling]:
        """The worst that was measured counts: the lower end of an interval, of all seeds."""
        for task, least in self.request.min_accuracy.items():
            rows = self.learnt.get((variant, task), [])
            values = [row.value if row.low is None else row.low for row in rows]
            known = [value for value in values if value is not None]
            if not known:
                yield Ruling(f"its accuracy on {task} was not measured")
            elif min(known) < least:
                yield Ruling(f"an accuracy on {task} below {least:g}", number(min(known)))


def _fits(row: Row, axes: Mapping[str, Any]) -> bool:
    return all(row.axes.get(axis) in (value, None) for axis, value in axes.items())


def _usual(row: Row) -> bool:
    """Whether it was raced against the usual baseline, with the caches that are the custom."""
    told = {"launches", "cache"} if str(row.axes["device"]).startswith("cuda") else {"launches"}
    return set(plain(row.axes["extra"] or "{}")) <= told


def _launches(row: Row) -> int:
    return int(json.loads(row.axes["extra"] or "{}").get("launches", 1))
