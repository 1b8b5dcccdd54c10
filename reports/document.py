"""A report as headings, paragraphs, lists and grids, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bakeoff.reports.allocators import Differing, is_tuned
from bakeoff.reports.blocks import (
    Block,
    Cards,
    Code,
    Grid,
    Heading,
    Items,
    Maps,
    OnPage,
    Text,
    Told,
    names_of,
)
from bakeoff.reports.cards import cards_of
from bakeoff.reports.checks import matrix
from bakeoff.reports.contents import Contents, Kind, Place
from bakeoff.reports.failures import failures_of, refusals_of
from bakeoff.reports.growth_charts import growth_figures
from bakeoff.reports.measured import measured
from bakeoff.reports.overview import overview
from bakeoff.reports.rows import Row
from bakeoff.reports.scaling import Scaling
from bakeoff.reports.units import number
from bakeoff.reports.verdicts import Verdict
from bakeoff.reports.words import describe, facets, plural, varying

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog

__all__ = ["document", "environment_of"]

#: The worst first, since that is what a reader must not miss.
VERDICTS = ("wrong", "failed", "undetermined", "not measured", "unverified", "right")
_SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
_LEGEND = (
    "± is the wider side of the 95% interval{}. A ratio marked = is no difference to the baseline: "
    "its interval lies within the noise floor of the race, which is how far apart two equals came "
    "out, and at least 2%. One marked ? is undecided."
)


_TUNED = (
    "The allocator is set to keep memory from call to call: a mode with less noise, to compare "
    "versions. It shifts rankings, so that nothing is ranked here: a user's process has the "
    "system's allocator."
)
_GROWTH = (
    "FLOPs and bytes are counted, and their exponents stand beside what the forward declares. "
    "Times are fitted by a + b·N^p: p with its 95% interval. Faster from: the length from which on "
    "it beats the baseline, narrowed down by races."
)


def document(contents: Contents, *, wide: bool, catalog: Catalog | None = None) -> Iterator[Block]:
    """The blocks of a report.

    Args:
        contents: What it says.
        wide: Whether there is room for both ends of an interval.
        catalog: The variants as they are now, for a card of each; None for a report without cards.
    """
    yield Heading(1, "bakeoff report")
    source = (f"{plural(contents.records, 'record')} from ", Code(contents.source), ".")
    yield Text(source)
    if len(contents.places) > 1:
        yield Text(
            (
                f"Measured in {len(contents.places)} environments, which are never mixed: "
                "each has its own part.",
            )
        )
    yield from _allocators(contents.differing)
    for i, place in enumerate(contents.places, start=1):
        if len(contents.places) > 1:
            yield Heading(2, f"Environment {i} of {len(contents.places)}")
        yield from _place(place, wide, catalog)


def _allocators(found: Sequence[Differing]) -> Iterator[Block]:
    """Where the system's allocator and the tuned one lead to different verdicts."""
    if not found:
        return
    yield Heading(2, "Verdicts that depend on the allocator")
    axes = varying(one.fixed for one in found)
    yield Grid(
        ("rival", "N", "case", "system", "tuned"),
        tuple(
            (
                Code(one.rival),
                str(one.length),
                describe(one.fixed, axes) or "-",
                *(f"{number(value)} {said}" for value, said in (one.system, one.tuned)),
            )
            for one in found
        ),
    )


def environment_of(place: Place) -> list[tuple[str, str]]:
    """The environment, by name and value, and when it was measured."""
    shown = {
        "CPU": "cpu",
        "cores": "cores",
        "memory (GiB)": "memory_gib",
        "device": "device",
        "torch": "torch",
        "Python": "python",
        "system": "system",
        "bakeoff": "bakeoff",
        "malloc": "malloc",
        "preload": "preload",
        "kernels": "kernels",
    }
    found = [(name, place.description.get(key)) for name, key in shown.items()]
    pairs = [(name, str(value)) for name, value in found if value not in (None, "", {})]
    return [*pairs, ("measured", when(place))]


def when(place: Place) -> str:
    """The first and the last minute of the measuring."""
    began, ended = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M")
        for t in (place.began, place.ended)
    )
    if began == ended:
        return f"{began} UTC"
    return f"{began} to {ended[11:] if began[:10] == ended[:10] else ended} UTC"


def _place(place: Place, wide: bool, catalog: Catalog | None) -> Iterator[Block]:
    pairs = environment_of(place)
    yield Text(tuple(piece for n, v in pairs for piece in (f"{n} ", Code(v), "; "))[:-1])
    if place.ceilings:
        yield Items(tuple((told,) for told in place.ceilings))
    if any(kind.speed for kind in place.kinds):
        yield Text((_LEGEND.format("; brackets hold both its ends" if wide else ""),))
    if is_tuned(place.description):
        yield Text((_TUNED,))
    if place.kinds:
        yield Heading(2, "Overview")
    for kind in place.kinds:
        name = f"{kind.name.capitalize()}: {counts(kind.verdicts)}"
        yield Heading(3, name, {"kind": kind.name})
        yield from overview(kind, ranked=not is_tuned(place.description))
    for kind in place.kinds:
        yield Heading(2, kind.name.capitalize(), {"kind": kind.name})
        yield from _verdicts(kind.verdicts, kind)
        yield from matrix(kind)
        yield from _maps(kind)
        yield from measured("Speed", kind.speed, wide)
        yield from measured("Memory", kind.memory, wide)
        yield from _scaling(kind.scaling)
        yield from measured("Further measurements", kind.others, wide)
        yield from _failures(kind)
    for section, rows in place.sections:
        yield Heading(2, section.title)
        yield from section.blocks(rows, place.wrong)
    if catalog is not None:
        yield from _cards(place, catalog)


def _cards(place: Place, catalog: Catalog) -> Iterator[Block]:
    yield Heading(2, "Variants")
    yield Text(("A card for each: what it says of itself, and everything measured of it.",))
    kinds = {kind.name: kind for kind in place.kinds}
    rows: dict[str, list[Row]] = {name: list(kind.rows) for name, kind in kinds.items()}
    for row in (row for _, own in place.sections for row in own):
        rows.setdefault(str(row.axes["kind"]), []).append(row)
    for name in sorted(rows):
        kind = kinds.get(name)
        verdicts, checks = (kind.verdicts, kind.checks) if kind else ([], {})
        if cards := cards_of(rows[name], verdicts, checks, catalog):
            yield Heading(3, f"{name.capitalize()} variants", {"kind": name})
            yield Cards(tuple(cards))


def counts(verdicts: Iterable[Verdict]) -> str:
    """How many forwards have which verdict."""
    found = [verdict.verdict for verdict in verdicts]
    told = [f"{found.count(name)} {name}" for name in reversed(VERDICTS) if name in found]
    return ", ".join(told) if told else "correctness not measured"


def ordered(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The worst first."""
    return sorted(verdicts, key=lambda verdict: VERDICTS.index(verdict.verdict))


def _verdicts(verdicts: Sequence[Verdict], kind: Kind) -> Iterator[Block]:
    if not verdicts:
        return
    dtypes = list(dict.fromkeys(dtype for v in verdicts for dtype in v.errors))
    yield Heading(3, "Is it right?")
    yield Text(
        (
            "Errors are the worst ratio of the error to what the dtype allows, over all cells: "
            "at most 2 passes. Grad is the same for gradients, over all dtypes. Failed counts "
            "probes, declared properties and identities. Unverified: there is no independent "
            "definition to compare with.",
        )
    )
    headers = ("forward", "verdict", *map(_error, dtypes))
    yield Grid(
        (*headers, "grad\nerror", "grad\ncheck", "checks\nfailed"),
        tuple(
            (
                Code(v.label),
                Told(
                    v.verdict,
                    value=float(VERDICTS.index(v.verdict)),
                    tip=v.reason,
                    status=v.verdict,
                ),
                *(_number(v.errors.get(d)) for d in dtypes),
                _number(max(v.gradients.values(), default=None)),
                v.gradcheck or "-",
                _failed_checks(kind, v.label),
            )
            for v in ordered(verdicts)
        ),
        facets={_error(dtype): {"dtype": dtype} for dtype in dtypes},
    )


def _error(dtype: str) -> str:
    return f"error\n{_SHORT.get(dtype, dtype)}"


def _number(value: float | None) -> str:
    return "-" if value is None else Told(number(value), value=value)


def _failed_checks(kind: Kind, label: str) -> str:
    found = [checks.count(label) for checks in kind.checks.values()]
    made = sum(count.made for count in found)
    return f"{sum(count.failed for count in found)}/{made}" if made else "-"


def _maps(kind: Kind) -> Iterator[Block]:
    if kind.pictures:
        told = (
            "One example with random tensors, not training: queries down, keys across. The deeper, "
            "the farther the output of a query moves with the value of a key, as a share of the "
            "most in its row; blank is no influence at all. An option that would not show at this "
            "length is smaller, as told.",
        )
        yield Maps(Heading(3, "Who attends to whom"), Text(told), tuple(kind.pictures))


def _scaling(found: Sequence[Scaling]) -> Iterator[Block]:
    if not found:
        return
    yield Heading(3, "How costs grow with the length N")
    yield Text((_GROWTH,))
    axes = varying(scaling.fixed for scaling in found)
    for scaling in found:
        if told := describe(scaling.fixed, axes):
            yield Heading(4, told, facets(scaling.fixed))
        yield Text(("Held fixed: " + describe(scaling.fixed) + ".",))
        yield Grid(
            ("forward", *scaling.columns),
            tuple(
                (
                    Code(rival),
                    *(
                        _growth(scaling, rival, *pair)
                        for pair in zip(scaling.columns, texts, strict=True)
                    ),
                )
                for rival, texts in scaling.rows.items()
            ),
            "Table: how costs grow",
            controls=scaling.controls,
        )
        if figures := tuple(growth_figures(scaling)):
            yield OnPage(figures)
        if scaling.unranked:
            yield Text(("Left out, wrong: ", *names_of(scaling.unranked), "."))


def _growth(scaling: Scaling, rival: str, column: str, text: str) -> str:
    row = scaling.found.get((rival, column))
    return Told(text, value=row.value, tip=row.reason) if row else text


def _failures(kind: Kind) -> Iterator[Block]:
    if kind.failures:
        yield Heading(3, f"Failures ({plural(len(kind.failures), 'row')})")
        yield Items(
            tuple(
                (
                    Code(failure.label),
                    f" {failure.status}: {failure.what}, {failure.where}",
                    f", in {failure.cells} cells" if failure.cells > 1 else "",
                    ": ",
                    Code(failure.reason),
                )
                for failure in failures_of(kind.failures)
            )
        )
    if kind.unsupported:
        yield Heading(3, f"Unsupported ({plural(len(kind.unsupported), 'row')})")
        yield Items(
            tuple(
                (
                    Code(refusal.reason),
                    f", {plural(refusal.cells, 'row')}: ",
                    *names_of(refusal.labels),
                )
                for refusal in refusals_of(kind.unsupported)
            )
        )
