"""Maps of who attends to whom: computed from the variant, stored as records, drawn as told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import bakeoff
from bakeoff import Attention, Catalog, Forward, Metadata, allowed_keys, masked_softmax
from bakeoff.cli.show import show
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import Maps, document
from bakeoff.reports.maps import METRIC, Picture, figure, pictures_of, shaded
from bakeoff.reports.page import page
from bakeoff.reports.rows import rows_of
from bakeoff.reports.text import terminal
from bakeoff.reports.verdicts import checks_of
from bakeoff.suites.maps import LENGTH, PLAIN, VISIBLE, attention_map
from bakeoff.suites.tensors import Arguments, arguments_for
from bakeoff.suites.verdicts import Unsupported

Tensor = torch.Tensor


def metadata(**changes: Any) -> Metadata:
    fields: dict[str, Any] = {
        "title": "Planted", "summary": "For tests.", "formula": "o", "strengths": ("short",),
        "weaknesses": ("useless",), "use_when": "Never.", "tags": ("soft",),
    }  # fmt: skip
    return Metadata(**{**fields, **changes})


def planted(fn: Any, **changes: Any) -> Attention:
    return Attention("planted", forwards={"reference": fn}, **{"metadata": metadata(), **changes})


def arguments(catalog: Catalog, name: str) -> Arguments:
    case = bakeoff.Case(kind="attention", shape=PLAIN, pattern="self", dtype="float64")
    return arguments_for(catalog[name], replace(case, options=catalog[name].options))


def banded(q, k, v, *, window, mask=None, causal=False, scale=None):
    place = torch.arange(k.shape[2])
    band = (place[:, None] - place).abs() <= window
    return masked_softmax(q @ k.mT, allowed_keys(q, k, band, causal)) @ v


def hardest(q, k, v, *, mask=None, causal=False, scale=None):
    """The key with the largest score: no gradient flows through the choice, nor through v."""
    scores = q @ k.mT
    allowed = allowed_keys(q, k, mask, causal)
    scores = scores if allowed is None else scores.masked_fill(~allowed, -1e9)
    chosen = torch.nn.functional.one_hot(scores.argmax(-1), k.shape[2]).to(v)
    return (chosen @ v).detach()


def test_a_map_of_dense_attention_is_its_weights(catalog: Catalog) -> None:
    found = attention_map(catalog["scaled_dot_product"], "self")
    drawn = arguments(catalog, "scaled_dot_product").data
    weights = (drawn["q"] @ drawn["k"].mT / 8**0.5).softmax(-1).sum((0, 1))
    # The derivative of o_i by v_j is p_ij times the identity, whose norm is √8.
    torch.testing.assert_close(found.weights, weights * 8**0.5, rtol=1e-9, atol=1e-12)
    assert found.share == 1
    assert not found.options


def test_a_map_of_projected_heads_is_the_jacobian(catalog: Catalog) -> None:
    variant = catalog["multi_head"]
    found = attention_map(variant, "self")
    drawn = arguments(catalog, "multi_head")
    fn = variant.forward("reference").fn
    v = drawn.data["v"]
    jacobian = torch.autograd.functional.jacobian(lambda x: drawn.replacing({"v": x}).call(fn), v)
    expected = jacobian[0].square().sum((2, 3, 4, 6)).sqrt().sum(0)  # (H, Nq, Dv, 1, H, Nk, Dv)
    torch.testing.assert_close(found.weights, expected, rtol=1e-6, atol=1e-9)


def test_what_is_causal_has_an_empty_corner(catalog: Catalog) -> None:
    for variant in catalog.select(kind="attention"):
        try:
            rows = attention_map(variant, "causal_self").rows
        except Unsupported:
            continue
        assert all(row[i + 1 :] == "0" * (LENGTH - i - 1) for i, row in enumerate(rows))


def test_a_window_that_would_not_show_is_smaller() -> None:
    found = attention_map(planted(banded, options={"window": 128}), "self")
    assert found.options == {"window": VISIBLE}
    for i, row in enumerate(found.rows):
        assert [j for j, digit in enumerate(row) if digit != "0"] == [
            j for j in range(LENGTH) if abs(i - j) <= VISIBLE
        ]
    shown = attention_map(planted(banded, options={"window": 5}), "self")
    assert not shown.options
    pairs = sum(abs(i - j) <= 5 for i in range(LENGTH) for j in range(LENGTH))
    assert shown.share == pytest.approx(pairs / LENGTH**2)


def test_a_large_option_that_matters_is_left() -> None:
    def sharpened(q, k, v, *, power, mask=None, causal=False, scale=None):
        return (q @ k.mT * power / 100).softmax(-1) @ v

    assert not attention_map(planted(sharpened, options={"power": 200}), "self").options


def test_what_is_not_differentiable_has_a_map() -> None:
    variant = planted(hardest, metadata=metadata(properties={"differentiable": False}))
    rows = attention_map(variant, "self").rows
    assert all(set(row) == {"0", "9"} for row in rows)
    assert all(1 <= row.count("9") <= 2 for row in rows)  # a key for each of two heads


def test_a_map_over_a_grid() -> None:
    def same_row(q, k, v, *, grid, mask=None, causal=False, scale=None):
        ((height, width),) = grid
        row = torch.arange(height * width) // width
        return masked_softmax(q @ k.mT, row[:, None] == row) @ v

    def needs(case: bakeoff.Case) -> str | None:
        return None if case.attention_shape.grid else "it needs a grid"

    variant = planted(Forward(same_row, supports=needs))
    assert attention_map(variant, "self").share == pytest.approx(8 / 32)


def test_what_the_mechanism_excludes() -> None:
    variant = planted(hardest, metadata=metadata(properties={"patterns": ("cross",)}))
    with pytest.raises(Unsupported, match="does not allow the pattern self"):
        attention_map(variant, "self")


def test_rounding_makes_no_tenth_digit() -> None:
    values = torch.rand(2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (9 * values / values).max() > 9
    assert set(bakeoff.suites.maps.AttentionMap(values).rows) == {"9"}


def test_digits_are_relative_to_the_row() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.5], [1e-6, 0.0, 1e-12], [0.0, 0.0, 0.0]])
    found = bakeoff.suites.maps.AttentionMap(weights.double())
    assert found.rows == ["095", "900", "000"]
    assert list(shaded(found.rows)) == ["  ██▒▒", "██", ""]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> bakeoff.Results:
    path: Path = tmp_path_factory.mktemp("maps") / "results.sqlite"
    given = {"seq_lens": 16, "dtypes": "float32", "patterns": "self", "results": path}
    return bakeoff.run("accuracy", variants=("sliding_window", "scaled_dot_product"), **given)


def test_maps_are_stored_and_read_back(results: bakeoff.Results, catalog: Catalog) -> None:
    rows = rows_of(results.to_pandas())
    pictures = {(p.variant, p.pattern): p for p in pictures_of(rows)}
    assert len(pictures) == 4
    for (name, pattern), picture in pictures.items():
        expected = attention_map(catalog[name], pattern)
        assert picture.rows == tuple(expected.rows)
        assert picture.share == pytest.approx(expected.share)
    assert pictures["sliding_window", "self"].options == "window = 2"
    assert pictures["sliding_window", "self"].told == "self: 15% of all pairs, window = 2"
    # A map is no check that could pass or fail.
    assert all(METRIC not in checks.names for checks in checks_of(rows).values())


def test_maps_stand_on_the_page_alone(results: bakeoff.Results) -> None:
    blocks = list(document(contents_of(results), wide=True))
    assert sum(isinstance(block, Maps) for block in blocks) == 1
    told = page(blocks)
    assert told.count("<svg") == 4
    assert 'aria-label="sliding_window, self: 15% of all pairs, window = 2"' in told
    assert '">Who attends to whom</a>' in told
    assert "Who attends" not in terminal(blocks)


def test_a_strange_remark_is_no_map(results: bakeoff.Results) -> None:
    row = next(row for row in rows_of(results.to_pandas()) if row.metric == METRIC)
    for reason in ("", "<svg onload=alert(1)>", "12/3x", "12/34 without end"):
        assert not pictures_of([replace(row, reason=reason)])
    hostile = replace(row, reason="90/09 with <script>", axes={**row.axes, "variant": "<b>"})
    (picture,) = pictures_of([hostile])
    drawn = figure(picture.variant, [picture])
    assert not re.search(r"<(script|b)>", drawn)


def test_strokes_cover_what_is_not_blank() -> None:
    drawn = figure("v", [Picture("v", "self", 0.5, ("0990", "1119"))])
    assert re.findall(r'd="([^"]*)" opacity="([^"]*)"', drawn) == [
        ("M0 1.5h3", ".1"),
        ("M1 0.5h2M3 1.5h1", ".9"),
    ]


def test_show_pictures_who_attends(tmp_path: Path) -> None:
    told = CliRunner().invoke(show, ["sliding_window"]).output
    assert "Who attends to whom" in told
    assert "self: 15% of all pairs, window = 2" in told
    assert "\n  ██\n" in told  # the first query of the causal one
    assert max(map(len, told.splitlines())) <= 80
    assert "Who attends" not in CliRunner().invoke(show, ["relu"]).output


def test_show_survives_a_variant_that_raises(tmp_path: Path) -> None:
    source = (
        "from bakeoff import Attention, Metadata, hookimpl\n"
        "def reference(q, k, v, *, mask=None, causal=False, scale=None):\n"
        "    raise ZeroDivisionError('as planted')\n"
        "@hookimpl\n"
        "def bakeoff_variants():\n"
        "    yield Attention('planted', forwards={'reference': reference}, metadata=Metadata(\n"
        "        title='P', summary='S.', formula='o', strengths=('s',), weaknesses=('w',),\n"
        "        use_when='Never.', tags=('soft',)))\n"
    )
    (tmp_path / "planted.py").write_text(source)
    done = CliRunner().invoke(show, ["planted", "--plugin", str(tmp_path / "planted.py")])
    assert done.exit_code == 0
    assert "self: ZeroDivisionError: as planted" in done.output
