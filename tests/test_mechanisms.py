"""Attention and connections against other people's code, loops written out, and known values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

import bakeoff
from bakeoff import Case, Catalog, Shape
from bakeoff.registry.binding import draw, takes
from bakeoff.registry.variants import Variant
from bakeoff.suites.grids import grid_of
from bakeoff.suites.product import usual_heads
from bakeoff.suites.tensors import why_not

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
ATTENTION = CATALOG.select(kind="attention")
CONNECTIONS = CATALOG.select(kind="connection")
over_attention = pytest.mark.parametrize("variant", ATTENTION, ids=[v.name for v in ATTENTION])
over_connections = pytest.mark.parametrize(
    "variant", CONNECTIONS, ids=[v.name for v in CONNECTIONS]
)

Tensor = torch.Tensor


def runnable(variant: Variant) -> list[str]:
    """Forwards that can run at all on this machine's CPU, at an ordinary size."""
    shape = usual_heads(variant, Shape(2, 4, 4, 32, 32, 16, 16))
    case = Case(kind="attention", shape=shape, pattern="self", options=variant.options)
    return [name for name in variant.forwards if why_not(variant, name, case) is None]


def drawn(q_len: int = 7, k_len: int = 11, seed: int = 0, dim: int = 6) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (q_len, k_len, k_len)
    return tuple(torch.randn(2, 3, n, dim, generator=generator, dtype=torch.float64) for n in sizes)


def drawn_for(variant: Variant, *sizes: int) -> tuple[Tensor, ...]:
    """The same, with as many key heads as the variant takes."""
    q, k, v = drawn(*sizes)
    shape = Shape(2, 3, 3, q.shape[2], k.shape[2], q.shape[3], v.shape[3])
    kv_heads = usual_heads(variant, shape).kv_heads
    return q, k[:, :kv_heads], v[:, :kv_heads]


def made(
    variant: Variant,
    forward: str = "reference",
    dim: int = 6,
    sizes: tuple[int, int] = (7, 11),
    grid: Any = None,
    **more: Any,
) -> nn.Module:
    shape = Shape(2, 3, 3, *sizes, dim, dim, grid)
    generator = torch.Generator().manual_seed(1)
    module = bakeoff.module(variant, shape, forward=forward, generator=generator, **more)
    for name, parameter in module.named_parameters():
        if name.startswith("b"):  # biases begin at zero, where an error in them would not show
            nn.init.normal_(parameter, generator=generator)
    return module.double().eval()


def beside(variant: Variant, q: Tensor, k: Tensor, grid: Any = None) -> dict[str, Any]:
    """What the variant is given at each call beside q, k and v."""
    shape = Shape(2, 3, k.shape[1], q.shape[2], k.shape[2], q.shape[3], q.shape[3], grid)
    generator = torch.Generator().manual_seed(4)
    values = draw(variant, "inputs", shape, generator, variant.options)
    given = {n: t.double() if t.is_floating_point() else t for n, t in values.items()}
    return {**given, **({"grid": grid} if grid else {})}


def loops(name: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray, p: Any):
    """The mechanism written out for one query at a time."""
    scores = {
        "dot_product": lambda h, a, b: a @ b,
        "scaled_dot_product": lambda h, a, b: a @ b / math.sqrt(len(a)),
        "sliding_window": lambda h, a, b: a @ b / math.sqrt(len(a)),
        "general": lambda h, a, b: a @ p["weight"][h] @ b,
        "additive": lambda h, a, b: (
            p["score_weight"][h] @ np.tanh(p["w_query"][h] @ a + p["w_key"][h] @ b + p["bias"][h])
        ),
    }[name]
    output = np.zeros((*q.shape[:3], v.shape[3]))
    for batch, head, i in np.ndindex(q.shape[:3]):
        keys = [j for j in range(k.shape[2]) if allowed[i, j]]
        if not keys:
            continue
        weights = np.array([scores(head, q[batch, head, i], k[batch, head, j]) for j in keys])
        weights = np.exp(weights - weights.max())
        weights /= weights.sum()
        output[batch, head, i] = sum(
            w * v[batch, head, j] for w, j in zip(weights, keys, strict=True)
        )
    return output


def per_head(parameter: Tensor, heads: int = 3) -> np.ndarray:
    """A parameter for each head: shared ones are repeated."""
    return (
        parameter.detach().numpy()
        if parameter.shape[0] == heads
        else np.stack([parameter.detach().numpy()] * heads)
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(7, 11), (11, 7), (9, 9)])
@pytest.mark.parametrize(
    "name", ["dot_product", "scaled_dot_product", "general", "additive", "sliding_window"]
)
def test_the_reference_is_the_formula(name: str, sizes: tuple[int, int], causal: bool) -> None:
    q, k, v = drawn(*sizes)
    options = {"options": {"window": 3}} if name == "sliding_window" else {}
    module = made(CATALOG[name], **options)
    mask = torch.rand(sizes, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[0] = False  # a query without any key
    i = np.arange(sizes[0])[:, None] + sizes[1] - sizes[0]
    j = np.arange(sizes[1])
    allowed = mask.numpy() & (not causal or j <= i)
    if name == "sliding_window":
        allowed = allowed & (abs(i - j) <= 3)
    learned = {n: per_head(p) for n, p in module.named_parameters()}
    expected = loops(name, q.numpy(), k.numpy(), v.numpy(), allowed, learned)
    found = module(q, k, v, mask=mask, causal=causal).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("forward", ["reference", "sdpa"])
@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_is_that_of_torch(catalog: Catalog, forward: str, causal: bool) -> None:
    module = made(catalog["multi_head"], forward)
    theirs = nn.MultiheadAttention(18, 3, batch_first=True, dtype=torch.float64)
    p = dict(module.named_parameters())
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p["w_query"], p["w_key"], p["w_value"]]))
        theirs.in_proj_bias.copy_(torch.cat([p["b_query"], p["b_key"], p["b_value"]]))
        theirs.out_proj.weight.copy_(p["w_output"])
        theirs.out_proj.bias.copy_(p["b_output"])
    given = [t.requires_grad_() for t in drawn(9, 9)]
    rows = [t.transpose(1, 2).flatten(2) for t in given]
    upper = torch.ones(9, 9, dtype=torch.bool).triu(1) if causal else None
    expected = theirs(*rows, attn_mask=upper, need_weights=False)[0]
    expected = expected.unflatten(-1, (3, 6)).transpose(1, 2)
    found = module(*given, causal=causal)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(found.sum(), [*given, p["w_query"], p["w_output"]])
    into = [*given, theirs.in_proj_weight, theirs.out_proj.weight]
    other = list(torch.autograd.grad(expected.sum(), into))
    other[3] = other[3][:18]
    for one, two in zip(ours, other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("dot_product", 0),
        ("scaled_dot_product", 0),
        ("sliding_window", 0),
        ("multi_head", 4 * 18 * 18 + 4 * 18),
    ],
)
def test_counts_of_parameters(catalog: Catalog, name: str, count: int) -> None:
    assert sum(p.numel() for p in made(catalog[name]).parameters()) == count


@over_attention
def test_the_order_of_keys_does_not_matter(variant: Variant) -> None:
    if "global" not in variant.metadata.tags or "positional" in variant.metadata.tags:
        pytest.skip("it depends on places")
    if takes(variant, "grid"):
        pytest.skip("its keys have places on the grid")
    q, k, v = drawn_for(variant)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    inputs, module = beside(variant, q, k), made(variant)
    expected = module(q, k, v, **inputs)
    torch.testing.assert_close(module(q, k[:, :, order], v[:, :, order], **inputs), expected)
    turned = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    torch.testing.assert_close(module(q[:, :, turned], k, v, **inputs), expected[:, :, turned])


@over_attention
def test_one_key_gives_its_value(variant: Variant) -> None:
    if not variant.declared("row_stochastic"):
        pytest.skip("its output is no mean of values")
    q, k, v = drawn_for(variant, 1, 1)
    grid = ((1, 1),) if takes(variant, "grid") else None
    for forward in runnable(variant):
        module = made(variant, forward, grid=grid)
        found = module(q, k, v, **beside(variant, q, k, grid))
        torch.testing.assert_close(found, v.expand_as(q))


@pytest.mark.parametrize("name", ["dot_product", "scaled_dot_product", "general"])
def test_a_query_of_zeros_gives_the_mean(catalog: Catalog, name: str) -> None:
    q, k, v = drawn()
    found = made(catalog[name])(torch.zeros_like(q), k, v)
    torch.testing.assert_close(found, v.mean(2, keepdim=True).expand_as(found))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 5, 63, 64, 200])
@pytest.mark.parametrize(
    "sizes", [(1, 1), (63, 63), (64, 64), (65, 65), (130, 130), (40, 90), (90, 40)]
)
def test_windows_in_blocks(
    catalog: Catalog, sizes: tuple[int, int], window: int, causal: bool
) -> None:
    """Lengths about the size of a block, and unequal ones, with a mask over the keys."""
    given = [t.requires_grad_() for t in drawn(*sizes)]
    mask = torch.rand(2, 1, 1, sizes[1], generator=torch.Generator().manual_seed(2)) < 0.8
    results = []
    for name in ("reference", "chunked"):
        module = made(catalog["sliding_window"], name, options={"window": window})
        output = module(*given, mask=mask, causal=causal)
        weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
        results.append((output, *torch.autograd.grad((output * weight).sum(), given)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


def test_nothing_beyond_the_window_is_reached(catalog: Catalog) -> None:
    q, k, v = (t.requires_grad_() for t in drawn(40, 40))
    for name in ("reference", "chunked"):
        output = made(catalog["sliding_window"], name, options={"window": 4})(q, k, v)
        into_k, into_v = torch.autograd.grad(output[:, :, 20].sum(), (k, v))
        for gradient in (into_k, into_v):
            reached = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
            assert reached.tolist() == list(range(16, 25))


@pytest.mark.parametrize(
    ("variant", "name"),
    [(v, f) for v in ATTENTION for f in runnable(v) if f != "reference"],
    ids=lambda value: getattr(value, "name", value),
)
@settings(max_examples=12, deadline=None)
@given(
    q_len=st.integers(1, 20),
    k_len=st.integers(1, 20),
    dim=st.integers(1, 5),
    causal=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_shape(
    variant: Variant,
    name: str,
    q_len: int,
    k_len: int,
    dim: int,
    causal: bool,
    masked: bool,
    seed: int,
) -> None:
    grid = grid_of("square", k_len) if takes(variant, "grid") else None
    q_len = k_len if grid else q_len
    q, k, v = drawn_for(variant, q_len, k_len, seed, dim)
    mask = None
    if masked and variant.forward(name).masks != "none":
        mask = torch.rand(2, 1, 1, k_len, generator=torch.Generator().manual_seed(seed)) < 0.5
    arguments = {"mask": mask, "causal": causal, **beside(variant, q, k, grid)}
    modules = [made(variant, f, dim, (q_len, k_len), grid) for f in ("reference", name)]
    try:
        expected, found = (module(q, k, v, **arguments) for module in modules)
    except bakeoff.UnsupportedError:
        reject()  # another example; where none is supported hypothesis complains
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


# Connections


def rows() -> tuple[Tensor, nn.Linear]:
    torch.manual_seed(0)
    return torch.randn(2, 5, 8, dtype=torch.float64), nn.Linear(8, 8, dtype=torch.float64)


def connected(name: str, forward: str = "reference") -> nn.Module:
    module = bakeoff.module(CATALOG[name], 8, forward=forward).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_connections_are_their_formulas() -> None:
    x, branch = rows()
    torch.testing.assert_close(connected("plain")(x, branch), branch(x))
    torch.testing.assert_close(connected("residual")(x, branch), x + branch(x))


@pytest.mark.parametrize("forward", CATALOG["pre_norm"].forwards)
def test_pre_norm_is_that_of_torch(forward: str) -> None:
    x, branch = rows()
    module = connected("pre_norm", forward)
    norm = nn.LayerNorm(8, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.copy_(module.get_parameter("weight"))
        norm.bias.copy_(module.get_parameter("bias"))
    torch.testing.assert_close(module(x, branch), x + branch(norm(x)), rtol=1e-10, atol=1e-10)


@over_connections
def test_the_branch_is_called_once(variant: Variant) -> None:
    x, branch = rows()
    calls = []

    def counted(h: Tensor) -> Tensor:
        calls.append(h.shape)
        return branch(h)

    for forward in variant.forwards:
        calls.clear()
        connected(variant.name, forward)(x, counted)
        assert calls == [x.shape]


@over_connections
def test_a_branch_of_zeros(variant: Variant) -> None:
    x, _ = rows()
    for forward in runnable(variant):
        found = connected(variant.name, forward)(x, torch.zeros_like)
        assert torch.equal(found, x) == variant.declared("identity_path")
