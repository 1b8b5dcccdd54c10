"""What stands on the page: formulas, cards, checks, the front; and that all text is text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import HOSTILE, write_results

import bakeoff
from bakeoff import Attention, Catalog, Metadata, Paper
from bakeoff.registry.variants import Variant
from bakeoff.reports.blocks import Cards, Figure, Grid, OnPage, Told
from bakeoff.reports.cards import Card, cards_of
from bakeoff.reports.contents import Contents, contents_of
from bakeoff.reports.curves import METRIC, curve_figure, curves_in
from bakeoff.reports.document import document
from bakeoff.reports.fronts import Point, beats, fronts_of, headline
from bakeoff.reports.page import page
from bakeoff.reports.rows import rows_of
from bakeoff.reports.tables import Entry
from bakeoff.reports.text import markdown, terminal
from bakeoff.reports.web.card import card_markup
from bakeoff.reports.web.formula import formula
from bakeoff.reports.web.usage import usage
from bakeoff.suites.curves import curves_of
from bakeoff.suites.store import Results

CATALOG = bakeoff.load(entry_points=False)
ALL = pytest.mark.parametrize("variant", CATALOG.values(), ids=lambda v: v.name)
ACTIVATIONS = pytest.mark.parametrize(
    "variant", CATALOG.select(kind="activation"), ids=lambda v: v.name
)
EVIL = "</script><script>planted = 1</script><img src=x onerror='planted = 1'>"


def hostile_catalog() -> Catalog:
    """The built-in variants, and one whose every text is an attack."""

    def reference(q, k, v, *, mask=None, causal=False, scale=None):
        return v

    return CATALOG.with_variants(
        Attention(
            "twin",
            forwards={"reference": reference},
            metadata=Metadata(
                title=EVIL,
                summary=EVIL,
                formula=rf"\text{{{EVIL}}} \href{{javascript:planted=1}}{{x}}",
                strengths=(EVIL,),
                weaknesses=(EVIL,),
                use_when=EVIL,
                tags=("soft",),
                paper=Paper(title=EVIL, authors=(EVIL,), year=2025, url="javascript:planted=1"),
            ),
        )
    )


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    path = tmp_path_factory.mktemp("results") / "known.sqlite"
    return contents_of(Results(write_results(path, activations=3)))


@pytest.fixture(scope="module")
def cards(contents: Contents) -> dict[str, Card]:
    blocks = document(contents, wide=False, catalog=hostile_catalog())
    return {card.variant: card for b in blocks if isinstance(b, Cards) for card in b.cards}


@ALL
def test_every_formula_is_set(variant: Variant) -> None:
    found = formula(variant.metadata.formula)
    assert found.startswith('<math display="block">')
    assert "\\" not in found


@pytest.mark.parametrize(
    "latex",
    [
        EVIL,
        rf"\text{{{EVIL}}}",
        r"\href{javascript:alert(1)}{x}",
        r"\textcolor{\"><script>}{z}",
        r"\class{a\" onclick=\"alert(1)}{x}",
        r"\frac{",
        "x & y < z",
        "",
    ],
)
def test_a_formula_is_never_markup(latex: str) -> None:
    found = formula(latex)
    tags = set(re.findall(r"<(/?\w+)", found))
    assert tags <= {f"{slash}{tag}" for slash in ("", "/") for tag in ALLOWED}
    assert set(re.findall(r'[\w-]+="[^"]*"', found)) <= {
        'display="block"', 'stretchy="true"', 'stretchy="false"', 'fence="true"', 'form="prefix"',
        'form="postfix"', 'displaystyle="true"', 'displaystyle="false"', 'scriptlevel="0"',
    }  # fmt: skip
    assert "onclick" not in re.sub(r">[^<]*<", "><", found)


ALLOWED = ("math", "mrow", "mi", "mo", "mn", "mtext", "mfrac", "mstyle", "mspace", "msup", "code")


@ALL
def test_the_code_of_a_card_runs(variant: Variant) -> None:
    exec(compile(usage(variant, ()), variant.name, "exec"), {})


@pytest.mark.parametrize(
    ("name", "slope"),
    [("relu", 1), ("gelu", 1.128904), ("silu", 1.099839), ("selu", 1.758099), ("sigmoid", 0.25)],
)
def test_the_largest_slope_is_the_known_one(name: str, slope: float) -> None:
    assert curves_of(CATALOG[name]).largest_slope == pytest.approx(slope, abs=1e-6)


@ACTIVATIONS
def test_curves_are_derivatives_of_each_other(variant: bakeoff.Activation) -> None:
    curves = curves_of(variant)
    step = float(curves.x[1] - curves.x[0])
    for upper, lower in ((curves.values, curves.slopes), (curves.slopes, curves.bends)):
        found = (upper[2:] - upper[:-2]) / (2 * step)
        # At a kink a difference and a derivative may differ, and kinks are few.
        assert float(((found - lower[1:-1]).abs() > 1e-2).double().mean()) < 1e-3


def test_curves_are_stored_drawn_and_no_check(tmp_path: Path) -> None:
    results = bakeoff.run(
        "accuracy", variants=("gelu", "relu"), seq_lens=16, dtypes="float32",
        results=tmp_path / "r.sqlite",
    )  # fmt: skip
    rows = rows_of(results.to_pandas())
    found = curves_in(rows)
    assert set(found) == {"gelu", "relu"}
    assert found["relu"].lines[0][0] == 0
    assert found["relu"].lines[0][-1] == found["relu"].ends[1] == 6
    made = contents_of(results)
    names = [n for kind in made.places[0].kinds for c in kind.checks.values() for n in c.names]
    assert METRIC not in names
    told = page(document(made, wide=False, catalog=CATALOG))
    assert told.count('<figure class="phi">') == 2
    assert 'aria-label="gelu: φ, φ′ and φ″ for x from -6 to 6; the largest slope is 1.129"' in told
    (row,) = (r for r in rows if r.metric == METRIC and r.axes["variant"] == "relu")
    for reason in ("", "x from 0 to 1: 1/2", "x from 0 to 1: <b>/1/2", "x from 0 to 1: 1,2/1/2"):
        assert not curves_in([replace(row, reason=reason)])
    curve = replace(found["relu"], variant=HOSTILE)
    assert "<script" not in curve_figure(curve)


def point(rival: str, ratio: float, size: float, error: float, wide: float = 0.01) -> Point:
    entry = Entry(ratio, ratio * (1 - wide), ratio * (1 + wide), 9, "ok", "", floor=1.02)
    return Point(rival, entry, size, error)


def test_who_beats_whom() -> None:
    fast, slow = point("fast", 0.5, 100, 1e-7), point("slow", 1.0, 100, 1e-7)
    assert beats(fast, slow)
    assert not beats(slow, fast)
    # Within the noise two are equals, and neither beats the other.
    assert not beats(fast, point("twin", 0.505, 100, 1e-7))
    assert beats(fast, point("twin", 0.505, 101, 1e-7))
    # Errors of one size are equals; ten times as much is not.
    assert not beats(point("coarse", 0.5, 100, 1e-6), slow)
    assert beats(fast, point("rounder", 0.505, 100, 1e-6))
    assert not beats(point("hungry", 0.5, 101, 1e-7), slow)


def test_the_front_holds_no_wrong_one(contents: Contents) -> None:
    kind = next(k for k in contents.places[0].kinds if k.name == "attention")
    fronts = fronts_of(kind.speed, kind.memory, kind.errors)
    assert fronts
    for front in fronts:
        assert "wrong_one:fast" not in {p.rival for p in front.points}
        unbeaten = [p for p in front.points if p.unbeaten]
        assert unbeaten
        for p in front.points:
            assert p.unbeaten is not any(beats(other, p) for other in front.points)
    assert {front.fixed["direction"] for front in headline(fronts)} == {"forward", "training"}


def test_the_overview_leads_at_every_length(contents: Contents) -> None:
    told = terminal(document(contents, wide=False), 200)
    line = next(s for s in told.splitlines() if s.startswith("causal_self, float32, forward"))
    # At N = 128 the baseline and its twin, then who grows least.
    assert "scaled_dot_product:sdpa 1 +1" in line
    assert line.split("  ")[-1].startswith("linear:chunked 0.0")


def test_what_needs_a_page_is_left_out_of_texts(contents: Contents) -> None:
    blocks = list(document(contents, wide=False, catalog=hostile_catalog()))
    assert any(isinstance(block, OnPage) for block in blocks)
    for told in (terminal(blocks), markdown(blocks)):
        assert "Checks one by one" not in told
        assert "In code" not in told
        assert "✓" not in told


def test_the_matrix_says_why(contents: Contents) -> None:
    grids = [
        inner
        for block in document(contents, wide=False)
        if isinstance(block, OnPage)
        for inner in block.blocks
        if isinstance(inner, Grid) and inner.narrow
    ]
    by_label = {row[0]: dict(zip(g.headers, row, strict=True)) for g in grids for row in g.rows}
    wrong = by_label["wrong_one:fast"]["no future leak"]
    assert isinstance(wrong, Told)
    assert (wrong, wrong.status, wrong.tip) == ("✗", "wrong", "no future leak: wrong, it leaks")
    assert by_label["linear:chunked"]["mask obeyed"] == "–"
    assert by_label["twin:sdpa"]["no future leak"] == "✓"
    assert by_label["residual:reference"]["single"] == "✓"


def test_a_card_of_what_is_gone_says_so(cards: dict[str, Card]) -> None:
    assert cards["linear"].about is None
    assert "No variant of this name is registered" in card_markup(cards["linear"], "a")
    told = card_markup(cards["sliding_window"], "a")
    assert "No variant of this name" not in told
    for words in ("<math", "In code", "@misc{beltagy2020longformer", "as declared", "Weaknesses"):
        assert words in told


def test_a_control_has_no_card(contents: Contents) -> None:
    rows = contents.places[0].kinds[0].rows
    control = replace(rows[0], axes={**rows[0].axes, "variant": "(chance)"})
    found = [card.variant for card in cards_of([*rows, control], (), {}, CATALOG)]
    assert found == sorted({row.axes["variant"] for row in rows})


def test_another_kind_s_name_is_no_card(contents: Contents) -> None:
    """A variant that has taken the name of a measured one, of another kind, is not that one."""
    renamed = replace(
        CATALOG["relu"], name="refuses", metadata=replace(CATALOG["relu"].metadata, aliases=())
    )
    blocks = document(contents, wide=False, catalog=CATALOG.with_variants(renamed))
    found = [c for b in blocks if isinstance(b, Cards) for c in b.cards if c.variant == "refuses"]
    assert [card.about for card in found] == [None]


def test_all_text_of_a_card_is_text(cards: dict[str, Card]) -> None:
    told = card_markup(cards["twin"], "a")
    assert not re.search(r"<(script|img)|href=.javascript", told)
    assert told.count("&lt;/script&gt;") >= 7


def test_figures_say_what_they_show(contents: Contents) -> None:
    figures = [
        inner
        for block in document(contents, wide=False)
        if isinstance(block, OnPage)
        for inner in block.blocks
        if isinstance(inner, Figure)
    ]
    assert figures
    assert all(figure.caption.endswith(".") for figure in figures)


def test_a_page_can_be_mailed(contents: Contents) -> None:
    assert len(page(document(contents, wide=False, catalog=CATALOG))) < 1.5e6
