"""Attention in which heads share keys and values, and how the suites measure it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import bakeoff
from bakeoff import Attention, Catalog, Shape, UnsupportedError
from bakeoff.suites.product import expand, usual_heads
from bakeoff.suites.records import Cell
from bakeoff.suites.rivals import baseline_for
from bakeoff.suites.selection import selection_for
from bakeoff.suites.tensors import why_not

FORWARDS = ("reference", "sdpa")
HEADS = [("grouped_query", 6, 3), ("grouped_query", 4, 2), ("multi_query", 4, 1)]


def drawn(heads: int, kv_heads: int, q_len: int, k_len: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((heads, q_len), (kv_heads, k_len), (kv_heads, k_len))
    return [
        torch.randn(2, h, n, 8, dtype=torch.float64, generator=generator, requires_grad=True)
        for h, n in sizes
    ]


def made(variant: Attention, heads: int, kv_heads: int, forward: str) -> Any:
    return bakeoff.module(variant, Shape(2, heads, kv_heads, 9, 9, 8, 8), forward=forward)


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize(("name", "heads", "kv_heads"), HEADS)
@pytest.mark.parametrize(("q_len", "k_len"), [(9, 9), (4, 9), (1, 9), (9, 4)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", ["", "keys", "full"])
def test_it_is_multi_head_with_repeated_keys(
    catalog: Catalog,
    name: str,
    heads: int,
    kv_heads: int,
    forward: str,
    q_len: int,
    k_len: int,
    causal: bool,
    masked: str,
) -> None:
    q, k, v = drawn(heads, kv_heads, q_len, k_len)
    sizes = {"keys": (2, 1, 1, k_len), "full": (2, heads, q_len, k_len)}
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(sizes[masked], generator=generator) < 0.6 if masked else None
    found = made(catalog[name], heads, kv_heads, forward)(q, k, v, mask=mask, causal=causal)
    repeated = [torch.stack([t] * (heads // kv_heads), 2).flatten(1, 2) for t in (k, v)]
    module = bakeoff.module(catalog["scaled_dot_product"], Shape(2, heads, heads, 9, 9, 8, 8))
    expected = module(q, *repeated, mask=mask, causal=causal)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_groups_are_neighbours(catalog: Catalog) -> None:
    """Heads 0 and 1 read key head 0: another order gives something else."""
    q, k, v = drawn(4, 2, 9, 9)
    found = made(catalog["grouped_query"], 4, 2, "sdpa")(q, k, v)
    alone = [F.scaled_dot_product_attention(q[:, h], k[:, h // 2], v[:, h // 2]) for h in range(4)]
    other = [F.scaled_dot_product_attention(q[:, h], k[:, h % 2], v[:, h % 2]) for h in range(4)]
    torch.testing.assert_close(found, torch.stack(alone, 1))
    assert not torch.allclose(found, torch.stack(other, 1))


@pytest.mark.parametrize("forward", FORWARDS)
def test_all_key_heads_are_multi_head(catalog: Catalog, forward: str) -> None:
    q, k, v = drawn(4, 4, 9, 9)
    found = made(catalog["grouped_query"], 4, 4, forward)(q, k, v)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("forward", FORWARDS)
def test_multi_query_has_one_key_head(catalog: Catalog, forward: str) -> None:
    module = made(catalog["multi_query"], 4, 2, forward)
    with pytest.raises(UnsupportedError, match="share one head of keys and values, and there are"):
        module(*drawn(4, 2, 9, 9))


# How the suites measure it


def cells(catalog: Catalog, name: str, **given: Any) -> list[Cell]:
    selection = selection_for("quick", "speed", {"variants": (name,), **given})
    return list(expand("speed", 1, catalog, selection))


@pytest.mark.parametrize(
    ("name", "heads", "kv_heads"),
    [
        ("grouped_query", 8, 4),
        ("grouped_query", 3, 1),
        ("grouped_query", 1, 1),
        ("multi_query", 8, 1),
        ("scaled_dot_product", 8, 8),
    ],
)
def test_fewer_key_heads_by_default(catalog: Catalog, name: str, heads: int, kv_heads: int) -> None:
    planned = cells(catalog, name, heads=(heads,), forwards=FORWARDS)
    assert {cell.case.attention_shape.kv_heads for cell in planned} == {kv_heads}
    assert not any(why_not(catalog[name], cell.forward, cell.case) for cell in planned)


def test_what_is_asked_for_is_measured(catalog: Catalog) -> None:
    planned = cells(catalog, "grouped_query", heads=(4,), kv_heads=(1, 4))
    assert {cell.case.attention_shape.kv_heads for cell in planned} == {1, 4}


def test_a_variant_that_takes_no_fewer_keeps_all(catalog: Catalog) -> None:
    variant = catalog["grouped_query"]
    shy = replace(variant.forward("reference"), supports=lambda case: "no")
    shape = Shape(1, 4, 4, 9, 9, 8, 8)
    assert usual_heads(replace(variant, forwards={"reference": shy}), shape) == shape
    assert usual_heads(variant, shape).kv_heads == 2


def test_the_baseline_keeps_all_its_key_heads(catalog: Catalog) -> None:
    (cell, *_) = cells(catalog, "multi_query", heads=(4,), seq_lens=(32,))
    assert not isinstance(baseline_for(catalog, cell, "scaled_dot_product:sdpa"), str)
