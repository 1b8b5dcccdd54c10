"""What is known of each variant: what it says of itself, and everything measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.variants import Variant
from bakeoff.reports.curves import Curve, curves_in
from bakeoff.reports.maps import Picture, pictures_of
from bakeoff.reports.rows import Row
from bakeoff.reports.verdicts import Checks, Verdict

__all__ = ["Card", "Property", "cards_of"]

#: Checks that measure a property under a name of their own.
_SEEN_ELSEWHERE = {"gradcheck": "differentiable", "branch_called": "branch_calls"}


@dataclass(frozen=True)
class Property:
    """One declared property.

    Args:
        name: Its name.
        declared: The value that the metadata declare.
        status: What became of the measurement; empty where there was none.
        reason: Why, where it is not as declared.
    """

    name: str
    declared: str
    status: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Card:
    """Everything about one variant.

    Args:
        variant: Its name.
        kind: Its kind.
        about: The variant itself; None where it is not registered any more.
        origin: The plugin that brought it.
        verdicts: One for each forward that was judged.
        properties: Declared against measured.
        curve: φ, φ′ and φ″, for an activation.
        pictures: Who attends to whom, for attention.
        rows: Every record.
    """

    variant: str
    kind: str
    about: Variant | None
    origin: str
    verdicts: tuple[Verdict, ...]
    properties: tuple[Property, ...]
    curve: Curve | None
    pictures: tuple[Picture, ...]
    rows: tuple[Row, ...]


def cards_of(
    rows: Iterable[Row],
    verdicts: Sequence[Verdict],
    checks: Mapping[str, Checks],
    catalog: Catalog,
) -> list[Card]:
    """One card for each variant in the rows, which are of one kind, by name.

    A control stands under a name in brackets, which no variant can have.
    """
    of_variant: dict[str, list[Row]] = {}
    for row in rows:
        if (name := str(row.axes["variant"])).isidentifier():
            of_variant.setdefault(name, []).append(row)
    return [
        _card(name, of_variant[name], verdicts, checks.get("properties"), catalog)
        for name in sorted(of_variant)
    ]


def _card(
    name: str,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    properties: Checks | None,
    catalog: Catalog,
) -> Card:
    kind = str(rows[0].axes["kind"])
    about = catalog.variants.get(name)
    if about is not None and about.kind != kind:
        about = None  # another variant has taken the name
    return Card(
        name,
        kind,
        about,
        catalog.origins.get(name, "") if about else "",
        tuple(v for v in verdicts if v.label.rpartition(":")[0] == name),
        tuple(_properties(about, properties, rows)) if about else (),
        curves_in(rows).get(name),
        tuple(pictures_of(rows)),
        tuple(rows),
    )


def _properties(variant: Variant, checks: Checks | None, rows: Iterable[Row]) -> Iterable[Property]:
    worst = dict(checks.worst) if checks else {}
    for row in rows:
        if row.metric in _SEEN_ELSEWHERE:
            worst[row.label, _SEEN_ELSEWHERE[row.metric]] = row
    for name, value in variant.metadata.properties.items():
        found = worst.get((f"{variant.name}:reference", name))
        declared = ("yes" if value else "no") if isinstance(value, bool) else _listed(value)
        yield Property(name, declared, *((found.status, found.reason) if found else ()))


def _listed(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)
