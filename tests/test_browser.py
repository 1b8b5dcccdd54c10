"""The page in a real browser: what is hidden, sorted, drawn and said; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import browser
import pytest
from synthetic import HOSTILE, write_results
from test_page import hostile_catalog

from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import document
from bakeoff.reports.page import page
from bakeoff.suites.store import Results

pytestmark = pytest.mark.skipif(browser.FOUND is None, reason="needs Chromium on the PATH")

SHOWN = "e => e && !e.closest('[hidden]')"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    contents = contents_of(Results(write_results(folder / "r.sqlite", activations=3)))
    made = folder / "report.html"
    made.write_text(page(document(contents, wide=False, catalog=hostile_catalog())), "utf-8")
    return made


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(tab: browser.Page, path: Path) -> browser.Page:
    tab.look()
    tab.open(path)
    return tab


def shown(tab: browser.Page, selector: str) -> int:
    return int(tab.run(f"[...document.querySelectorAll({selector!r})].filter({SHOWN}).length"))


def first_column(tab: browser.Page, table: str) -> list[str]:
    cells = f"[...document.querySelectorAll('#{table} tbody tr')]"
    return list(tab.run(f"{cells}.map(r => r.cells[0].textContent)"))


def test_quiet_and_alone(opened: browser.Page, path: Path) -> None:
    assert opened.complaints == []
    assert {address.partition("#")[0] for address in opened.fetched} == {path.as_uri()}


def test_a_complaint_would_be_heard(opened: browser.Page) -> None:
    opened.run("setTimeout(() => undefined_name, 0)")
    opened.run("fetch('http://localhost/').catch(() => 0)")
    opened.settle()
    assert any("undefined_name" in told for told in opened.complaints)
    assert any("Content Security Policy" in told for told in opened.complaints)


def test_hostile_texts_are_texts(opened: browser.Page) -> None:
    assert opened.run("typeof planted") == "undefined"
    assert opened.run("document.querySelectorAll('main script, main img').length") == 0
    assert HOSTILE in opened.run("document.querySelector('main').textContent")
    assert "<img" in opened.run("document.querySelector('#variant-twin .formula').textContent")
    links = opened.run("[...document.querySelectorAll('main a')].map(a => a.protocol)")
    assert set(links) <= {"file:", "https:"}


def test_charts_are_drawn(opened: browser.Page) -> None:
    opened.until("document.querySelector('.chart svg') !== null")


@pytest.mark.parametrize(
    ("fragment", "gone", "left"),
    [
        ("kind=attention", "#activation, [data-variant=act_00]", "#attention, #variant-twin"),
        ("name=sliding", "#variant-twin, [data-variant=linear]", "#variant-sliding_window"),
        ("tag=local", "#variant-twin", "#variant-sliding_window"),
        ("dtype=bfloat16", "section[data-dtype=float32], th[data-dtype=float32]",
         "section[data-dtype=bfloat16]"),
        ("pattern=self&direction=training", "[data-pattern=causal_self], [data-direction=forward]",
         "section[data-pattern=self][data-direction=training]"),
    ],
)  # fmt: skip
def test_a_link_filters(tab: browser.Page, path: Path, fragment: str, gone: str, left: str) -> None:
    tab.open(path)
    assert all(shown(tab, selector) for selector in gone.split(", "))
    tab.open(path, fragment)
    assert [shown(tab, selector) for selector in gone.split(", ")] == [0] * len(gone.split(", "))
    assert shown(tab, left)
    for name, value in (part.split("=") for part in fragment.split("&")):
        assert tab.run(f"document.forms.filters.elements['{name}'].value") == value


def test_what_is_typed_can_be_sent_on(opened: browser.Page) -> None:
    opened.run("document.forms.filters.elements['name'].focus()")
    opened.ask("Input.insertText", text="twin")
    assert opened.run("location.hash") == "#name=twin"
    assert shown(opened, ".card") == 1
    said = opened.run("document.querySelector('#filters output').textContent")
    assert said.startswith("1 of ")
    assert shown(opened, "#contents a[href='#attention']") == 1
    opened.run("document.forms.filters.reset()")
    opened.settle()
    assert shown(opened, ".card") > 1


def test_a_chart_shows_what_is_chosen(tab: browser.Page, path: Path) -> None:
    place = "#speed-self-float32-forward .chart"
    tab.open(path, "name=twin&at=speed-self-float32-forward")
    tab.until(f"document.querySelector({place!r} + ' svg') !== null")
    drawn = tab.run(f"document.querySelector({place!r}).textContent")
    assert "twin:sdpa" in drawn
    assert "linear:chunked" not in drawn


def test_sorted_by_the_keyboard_and_by_a_link(opened: browser.Page, path: Path) -> None:
    table = opened.run("document.querySelector('#speed-self-float32-forward table').id")
    opened.run(f"document.getElementById('{table}').closest('details').open = true")
    before = first_column(opened, table)
    opened.run(f"document.querySelectorAll('#{table} thead button')[1].focus()")
    heading = f"document.querySelectorAll('#{table} th')[1].getAttribute('aria-sort')"
    orders = []
    for said in ("ascending", "descending", "none"):
        opened.press("Enter")
        assert opened.run(heading) == said
        orders.append(first_column(opened, table))
    ascending, descending, again = orders
    assert again == before
    assert ascending != before
    # The least at N = 128 is the baseline; a row without a number comes last either way.
    assert ascending[0] == "scaled_dot_product:sdpa"
    assert descending[0] == "additive:reference"
    opened.open(path, f"sort={table}.1d")
    assert first_column(opened, table) == descending


def test_numbers_come_before_words_and_blanks_last(opened: browser.Page) -> None:
    found = opened.run(
        "(() => { const t = document.createElement('table'); t.innerHTML = `<thead><tr><th>a</th>"
        "</tr></thead><tbody>${['-', '10 ms', 'oom', '= 9'].map(x => `<tr><td>${x}</td></tr>`)"
        ".join('')}</tbody>`; document.body.append(t); tables.prepare(t);"
        "const b = t.querySelector('button'); const read = () => [...t.tBodies[0].rows]"
        ".map(r => r.textContent).join(); b.click(); const up = read(); b.click();"
        "return [up, read()]; })()"
    )
    assert found == ["= 9,10 ms,oom,-", "10 ms,= 9,oom,-"]


def test_a_card_opens_with_all_its_results(tab: browser.Page, path: Path) -> None:
    tab.open(path, "variant-sliding_window")
    assert tab.run("document.querySelector('#variant-sliding_window').open")
    assert tab.run("document.activeElement.id") == "variant-sliding_window"
    results = "document.querySelector('#variant-sliding_window .results')"
    promised = int(tab.run(f"parseInt({results}.textContent.match(/\\d+/)[0])"))
    tab.run(f"{results}.open = true")
    tab.until(f"{results}.querySelector('tbody') !== null")
    rows = f"{results}.querySelectorAll('tbody tr').length"
    assert tab.run(rows) == promised
    tab.run("state.choose({ dtype: 'bfloat16' })")
    tab.until(f"{rows} < {promised} && {rows} > 0")
    assert "float32" not in tab.run(f"{results}.querySelector('tbody').textContent")


def test_a_name_leads_to_its_card(opened: browser.Page) -> None:
    opened.run("document.querySelector('#attention a[href=\"#variant-sliding_window\"]').click()")
    assert opened.run("document.querySelector('#variant-sliding_window').open")
    assert opened.run("location.hash") == "#variant-sliding_window"


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(tab: browser.Page, path: Path, *, dark: bool) -> None:
    tab.look(width=360, height=740, dark=dark)
    tab.open(path, "variant-sliding_window")
    assert tab.run("document.documentElement.scrollWidth") <= 360
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 26)") is dark
    assert not tab.run("document.querySelector('#contents').open")


def test_charts_follow_the_scheme(tab: browser.Page, path: Path) -> None:
    colours = set()
    for dark in (False, True):
        tab.look(dark=dark)
        tab.open(path, "attention")
        tab.until("document.querySelector('.chart svg text') !== null")
        script = "document.querySelector('.chart svg text').getAttribute('fill')"
        colours.add(tab.run(script))
    assert len(colours) == 2


def test_paper(opened: browser.Page, tmp_path: Path) -> None:
    opened.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    # On paper a chart is drawn though nobody came near it.
    assert opened.run("document.querySelectorAll('.chart svg').length") > 10
    opened.ask("Emulation.setEmulatedMedia", media="print")
    assert opened.run("getComputedStyle(document.querySelector('.side')).display") == "none"


def test_one_can_find_one_s_way_without_seeing(opened: browser.Page) -> None:
    levels = opened.run(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for landmark in ("main", "nav[aria-label]", "form[role=search][aria-label]", "a.skip"):
        assert opened.run(f"document.querySelectorAll({landmark!r}).length") == 1
    assert opened.run("document.querySelectorAll('main table[id]:not(:has(caption))').length") == 0
    assert opened.run("document.querySelectorAll('th:not([scope])').length") == 0
    ids = opened.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    unnamed = "[...document.querySelectorAll('input,select')].filter(e => !e.labels.length).length"
    assert opened.run(unnamed) == 0
    opened.press("Tab")
    assert opened.run("document.activeElement.className") == "skip"
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
