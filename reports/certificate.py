"""The certificate of one variant: every check of every forward, pass or fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any

from bakeoff.reports.blocks import Block, Code, Grid, Heading, Items, Text
from bakeoff.reports.failures import where
from bakeoff.reports.maps import METRIC
from bakeoff.reports.rows import Row, plain
from bakeoff.reports.units import number
from bakeoff.reports.verdicts import SIZES, verdicts_of
from bakeoff.reports.words import plural
from bakeoff.suites.records import CELL_METRIC, Status

__all__ = [
    "Cause",
    "Certificate",
    "Check",
    "ForwardCertificate",
    "Guide",
    "Judged",
    "blocks",
    "certificate_of",
    "judged",
]

#: What a variant may be called after its checks, the worst first.
_BAD = ("wrong", "failed", "undetermined")


#: What is judged: a forward by a metric on a device in a dtype.
Judged = tuple[str, str, str, str]


def judged(row: Row) -> Judged:
    """What a row judges."""
    axes = row.axes
    return str(axes["forward"]), row.metric, str(axes["device"]), str(axes["dtype"])


@dataclass(frozen=True)
class Cause:
    """A fault of torch on this machine, without which a check passes.

    Args:
        name: Of the fault.
        summary: What torch does.
        workaround: What to do about it.
        report: Address of its public report; empty where there is none.
    """

    name: str
    summary: str
    workaround: str
    report: str = ""


#: The check whose number is a ratio of times, and from which on it is told.
TIMED, SLOW = "time_of_reference", 10.0


@dataclass(frozen=True)
class Guide:
    """What a reader needs beside the rows.

    Args:
        expected: By name of a check what must hold.
        look: By name of a check where such a fault usually is.
        raised: Likewise where the check raised an exception.
        words: What torch says of a fault that has no exception of its own; likewise.
        order: Names of checks, those first whose failure makes others fail.
        sources: By forward the file and the line of its function.
        recurrence: Likewise of the recurrence; empty where there is none.
        causes: By what is judged the fault of torch that makes it wrong.
    """

    expected: Mapping[str, str]
    look: Mapping[str, str]
    raised: Mapping[str, str]
    words: Mapping[str, str]
    order: Sequence[str]
    sources: Mapping[str, str]
    recurrence: str = ""
    causes: Mapping[Judged, Cause] = field(default_factory=dict)

    def advice(self, row: Row) -> str:
        """Where to look for the fault of a row that is not ok."""
        for words, where_to in self.words.items() if row.status == "failed" else ():
            if words in row.reason:
                return where_to
        return (self.look if row.status == "wrong" else self.raised).get(row.metric, "")

    def source(self, row: Row) -> str:
        """The line of what was checked: the forward, or the recurrence beside it."""
        if plain(row.axes["extra"] or "{}").get("check") == "recurrence":
            return self.recurrence
        return self.sources.get(str(row.axes["forward"]), "")

    def place(self, check: Check) -> int:
        """Sorts checks: causes before what they bring about, then as they were made."""
        # What raised was not seen to do what it asks after, and is a symptom of something else.
        known = check.name in self.order and check.status != Status.FAILED
        return self.order.index(check.name) if known else len(self.order)


@dataclass(frozen=True)
class Check:
    """One check of one forward, over all cells in which it was made.

    Args:
        name: The probe, the property, the identity, or the judged number.
        status: The worst of all cells.
        cells: In how many cells it could be made.
        value: The largest of the judged numbers, where there are any.
        got: What was found, where it is not ok.
        expected: What must hold.
        at: The cells of the worst status, in words.
        look: Where to look for the fault.
        cause: The fault of torch that explains all of it.
    """

    name: str
    status: str
    cells: int
    value: float | None = None
    got: str = ""
    expected: str = ""
    at: str = ""
    look: str = ""
    cause: Cause | None = None

    @property
    def passed(self) -> bool:
        """Whether it holds, or can't be asked of this forward."""
        return self.status in (Status.OK, Status.UNSUPPORTED, Status.UNVERIFIED)


@dataclass(frozen=True)
class ForwardCertificate:
    """What is known of one forward.

    Args:
        name: Of the forward.
        verdict: ``right``, ``wrong``, ``failed``, ``undetermined``, ``unverified`` or ``not
            measured``.
        reason: Why, where it is not ``right``.
        checks: All of them: causes first, the others in the order in which they were made.
    """

    name: str
    verdict: str
    reason: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Certificate:
    """What is known of one variant.

    Args:
        variant: Its name.
        kind: Its kind.
        origin: The plugin that brings it.
        forwards: One for each of its forwards.
        seconds: How long it took.
    """

    variant: str
    kind: str
    origin: str
    forwards: tuple[ForwardCertificate, ...]
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """The worst of its forwards that were measured; ``not measured`` where none was."""
        found = [f.verdict for f in self.forwards if f.verdict != "not measured"]
        worst = next((bad for bad in _BAD if bad in found), "")
        if worst or not found:
            return worst or "not measured"
        return "right" if "right" in found else "unverified"

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong: it is right, or there is nothing to compare it with."""
        return self.verdict in ("right", "unverified")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"verdict": self.verdict, "passed": self.passed, **asdict(self)}

    def __str__(self) -> str:
        from bakeoff.reports.text import terminal

        return terminal(blocks([self])).rstrip()


def certificate_of(
    rows: Sequence[Row], variant: str, origin: str, guide: Guide, seconds: float = 0.0
) -> Certificate:
    """Gather the rows of one variant."""
    own = [row for row in rows if row.axes["variant"] == variant]
    verdicts = {v.label.rpartition(":")[2]: v for v in verdicts_of(own)}
    forwards = []
    for name, verdict in verdicts.items():
        checks = _checks([row for row in own if row.axes["forward"] == name], guide)
        failed = [check for check in checks if not check.passed]
        worst = max(failed, key=lambda check: Status.of(check.status).severity, default=None)
        said = verdict.verdict
        if worst:  # other suites judge too: counts of a cost that was declared
            said = worst.status if worst.status in _BAD else "failed"
        # The first is the likeliest cause of the others, whichever is the worst.
        first = min(failed, key=lambda c: c.status == Status.UNDETERMINED, default=None)
        reason = f"{first.name}: {first.got}" if first else verdict.reason
        forwards.append(ForwardCertificate(name, said, reason, tuple(checks)))
    kind = str(own[0].axes["kind"]) if own else ""
    return Certificate(variant, kind, origin, tuple(forwards), seconds)


def blocks(certificates: Sequence[Certificate]) -> Iterator[Block]:
    """The certificates as a document."""
    for certificate in certificates:
        yield Heading(1, f"{certificate.variant}: {certificate.verdict}")
        total = sum(_made(forward) for forward in certificate.forwards)
        yield Text(
            (
                f"{certificate.kind.capitalize()} from ",
                Code(certificate.origin),
                f"; {plural(total, 'check')} in {certificate.seconds:.0f} s.",
            )
        )
        yield Grid(
            ("forward", "verdict", "checks", "failed", "worst\nerror", "worst\ngradient"),
            tuple(_line(forward) for forward in certificate.forwards),
        )
        yield from _remarks(certificate)
        for forward in certificate.forwards:
            yield from _faults(forward)


def _line(forward: ForwardCertificate) -> tuple[str, ...]:
    failed = sum(not check.passed for check in forward.checks)
    return (
        Code(forward.name),
        forward.verdict,
        str(_made(forward)),
        str(failed),
        _largest(forward, ("error_ratio", "error_ratio_masked")),
        _largest(forward, ("grad_error_ratio",)),
    )


def _largest(forward: ForwardCertificate, names: tuple[str, ...]) -> str:
    found = [c.value for c in forward.checks if c.name in names and c.value is not None]
    return number(max(found)) if found else "-"


def _made(forward: ForwardCertificate) -> int:
    return sum(check.status != "unsupported" for check in forward.checks)


def _remarks(certificate: Certificate) -> Iterator[Block]:
    """What a verdict that is neither right nor wrong means, and what is told of a right one."""
    told: list[tuple[str, ...]] = []
    for forward in certificate.forwards:
        if forward.verdict == "unverified":
            what = (
                ": there is no second, independent way to compute it, so that only what must hold "
                f"of any {certificate.kind} was checked. Add a faster forward, or one from another "
                "library."
            )
            told.append((Code(forward.name), " is unverified", what))
        elif forward.verdict == "undetermined":
            what = (
                ": in some dtype its own error is so large that nothing can be judged by it there; "
                "where that is, is said below."
            )
            told.append((Code(forward.name), " is undetermined", what))
        elif forward.verdict == "not measured":
            told.append(
                (Code(forward.name), " is not measured: it runs nothing of this here: ",
                 Code(forward.reason), ".")
            )  # fmt: skip
        for check in forward.checks:
            if check.name == TIMED and check.value is not None and check.value > SLOW:
                times = f"{number(check.value)} times as long as the reference {check.got}."
                told.append((Code(forward.name), f" takes {times}"))
    if told:
        yield Items(tuple(told))


def _faults(forward: ForwardCertificate) -> Iterator[Block]:
    for check in forward.checks:
        if check.passed:
            continue
        yield Heading(2, f"{forward.name}: {check.name} {check.status}")
        items = (("got: ", check.got), ("expected: ", check.expected), ("at: ", check.at),
                 ("look at: ", check.look))  # fmt: skip
        found = [(title, Code(text)) for title, text in items if text]
        yield Items((*found, *_blame(check.cause)))


def _blame(cause: Cause | None) -> Iterator[tuple[str, ...]]:
    if cause:
        yield "torch is at fault: ", cause.summary
        yield "workaround: ", cause.workaround
        yield "report: ", cause.report or "none that we know of"


def _checks(rows: Sequence[Row], guide: Guide) -> list[Check]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.metric in (*SIZES, METRIC) and not row.failed:
            continue  # told, not judged
        groups.setdefault(_name(row), []).append(row)
    return sorted((_check(name, group, guide) for name, group in groups.items()), key=guide.place)


def _check(name: str, rows: Sequence[Row], guide: Guide) -> Check:
    worst = max(rows, key=attrgetter("severity"))
    values = [row.value for row in rows if row.value is not None]
    made = sum(row.status != "unsupported" for row in rows)
    value = max(values) if values else None
    if worst.status in (Status.OK, Status.UNVERIFIED):
        return Check(name, worst.status, made, value, worst.reason)
    alike = [row for row in rows if row.status == worst.status]
    if worst.status == "unsupported":
        return Check(name, worst.status, 0, None, worst.reason)
    metric = worst.metric
    look = "; ".join(filter(None, (guide.source(worst), guide.advice(worst))))
    expected = guide.expected.get("property" if metric.startswith("property_") else metric, "")
    causes = {guide.causes.get(judged(row)) for row in rows if row.failed}
    cause = causes.pop() if len(causes) == 1 else None
    return Check(name, worst.status, made, value, worst.reason, expected, where(alike), look, cause)


def _name(row: Row) -> str:
    """The metric; with it which identity, or what the suite looked at where nothing came out."""
    extra = plain(row.axes["extra"] or "{}")
    if identity := extra.get("identity"):
        return f"{row.metric} ({identity})"
    if row.metric == CELL_METRIC:
        return f"{row.axes['suite']} {extra.get('check', '')}".rstrip()
    return row.metric
