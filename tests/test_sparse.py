"""Sparse, windowed, hierarchical and deformable attention against masks and loops written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import bakeoff
from bakeoff import Case, Shape, UnsupportedError
from bakeoff.plugins.attention._banded import BLOCK, banded_attention
from bakeoff.plugins.attention._parts import dense_part, interleaved, merged, of_residues
from bakeoff.suites.counting import counted

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
Tensor = torch.Tensor
SIZES = [(37, 37), (23, 41), (41, 23), (1, 37), (131, 131)]
sizes_and_causal = pytest.mark.parametrize(
    ("sizes", "causal"), [(sizes, causal) for sizes in SIZES for causal in (False, True)]
)


def drawn(q_len: int, k_len: int, heads: int = 2, dim: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, heads, n, dim, generator=generator, dtype=torch.float64, requires_grad=True)
        for n in (q_len, k_len, k_len)
    ]


def made(name: str, forward: str, sizes: tuple[int, int], grid: Any = None, **options: Any) -> Any:
    shape = Shape(2, 2, 2, *sizes, 4, 4, grid)
    generator = torch.Generator().manual_seed(1)
    module = bakeoff.module(
        CATALOG[name], shape, forward=forward, options=options, generator=generator
    )
    return module.double()


def fast(name: str) -> str:
    (forward,) = set(CATALOG[name].forwards) - {"reference"}
    return forward


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float | None = None) -> Tensor:
    """torch's own attention, which gives zeros where nothing is allowed."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)


def pairs(q_len: int, k_len: int, sees: Callable[[int, int], bool], causal: bool) -> Tensor:
    """Who sees whom, one pair at a time; places are aligned at the lower right."""
    offset = k_len - q_len
    rows = [
        [sees(row + offset, j) and not (causal and j > row + offset) for j in range(k_len)]
        for row in range(q_len)
    ]
    return torch.tensor(rows)


def same_everywhere(found: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    """Outputs and gradients agree."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    weight = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    ours, theirs = (
        torch.autograd.grad((x * weight).sum(), leaves, retain_graph=True, allow_unused=True)
        for x in (found, expected)
    )
    for one, two, leaf in zip(ours, theirs, leaves, strict=True):
        nothing = torch.zeros_like(leaf)
        one, two = (nothing if g is None else g for g in (one, two))
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


def key_mask(k_len: int) -> Tensor:
    return torch.rand(2, 1, 1, k_len, generator=torch.Generator().manual_seed(5)) < 0.7


# Masks


def window(i: int, j: int) -> bool:
    return abs(i - j) <= 3


def sinks(i: int, j: int) -> bool:
    return abs(i - j) <= 3 or j < 2


def dilated(i: int, j: int) -> bool:
    return abs(i - j) in (0, 3, 6, 9)


def strided(i: int, j: int) -> bool:
    return abs(i - j) <= 5 or (i - j) % 5 == 0


MASKED = [
    ("sliding_window", {"window": 3}, window),
    ("sink_window", {"window": 3, "sinks": 2}, sinks),
    ("dilated_window", {"window": 3, "dilation": 3}, dilated),
    ("strided_sparse", {"stride": 5}, strided),
]


@sizes_and_causal
@pytest.mark.parametrize(("name", "options", "sees"), MASKED, ids=[m[0] for m in MASKED])
def test_masks_are_those_written_out(
    name: str, options: dict[str, Any], sees: Any, sizes: tuple[int, int], causal: bool
) -> None:
    given = drawn(*sizes)
    allowed = pairs(*sizes, sees, causal)
    mask = key_mask(sizes[1])
    for forward in ("reference", fast(name)):
        module = made(name, forward, sizes, **options)
        for more in (None, mask):
            seen = allowed if more is None else allowed & more
            expected = dense(*given, seen)
            same_everywhere(module(*given, mask=more, causal=causal), expected, given)


def test_a_mask_that_is_wrong_is_noticed() -> None:
    """The comparison can fail: a window wider by one."""
    given = drawn(37, 37)
    wider = pairs(37, 37, lambda i, j: abs(i - j) <= 4, False)
    with pytest.raises(AssertionError):
        same_everywhere(
            made("sliding_window", "chunked", (37, 37), window=3)(*given),
            dense(*given, wider),
            given,
        )


@sizes_and_causal
def test_longformer_is_two_attentions(sizes: tuple[int, int], causal: bool) -> None:
    """Global rows use projections of their own over all keys, the others window and globals."""
    given = drawn(*sizes)
    offset = sizes[1] - sizes[0]
    mask = key_mask(sizes[1])
    near = pairs(*sizes, lambda i, j: abs(i - j) <= 3 or j < 2, causal)
    everywhere = pairs(*sizes, lambda i, j: True, causal)
    for forward in ("reference", "chunked"):
        module = made("longformer", forward, sizes, window=3, global_tokens=2)
        generator = torch.Generator().manual_seed(3)
        for parameter in module.parameters():  # global weights begin as copies, biases at zero
            torch.nn.init.normal_(parameter, generator=generator)
        p = dict(module.named_parameters())

        def project(x: Tensor, which: str, p: dict[str, Tensor] = p) -> Tensor:
            rows = torch.cat(list(x.unbind(1)), -1) @ p[f"w_{which}"].mT + p[f"b_{which}"]
            return torch.stack(rows.chunk(2, -1), 1)

        local = [project(x, w) for x, w in zip(given, ("query", "key", "value"), strict=True)]
        names = ("query_global", "key_global", "value_global")
        of_all = [project(x, w) for x, w in zip(given, names, strict=True)]
        for more in (None, mask):
            rows = [
                dense(*of_all, everywhere if more is None else everywhere & more)[:, :, r]
                if 0 <= r + offset < 2
                else dense(*local, near if more is None else near & more)[:, :, r]
                for r in range(sizes[0])
            ]
            found = module(*given, mask=more, causal=causal)
            same_everywhere(found, torch.stack(rows, 2), [*given, *p.values()])


def test_longformer_begins_with_equal_projections() -> None:
    module = made("longformer", "reference", (8, 8))
    for name in ("query", "key", "value"):
        one, two = (module.get_parameter(f"w_{name}{of}") for of in ("", "_global"))
        assert torch.equal(one, two)
        assert one.data_ptr() != two.data_ptr()


def linked_by(links: Tensor, k_len: int) -> Callable[[int, int], bool]:
    """Who sees whom in blocks of five, by the links of one head."""
    last = (k_len - 1) // 5

    def sees(i: int, j: int) -> bool:
        own, other = i // 5, j // 5
        linked = i >= 0 and other in links[own].tolist()
        return abs(own - other) <= 1 or other in (0, last) or own in (0, last) or linked

    return sees


@sizes_and_causal
def test_bigbird_sees_what_its_blocks_see(sizes: tuple[int, int], causal: bool) -> None:
    given = drawn(*sizes)
    mask = key_mask(sizes[1])
    for forward in ("reference", "blocked"):
        module = made("bigbird", forward, sizes, block_size=5, random_blocks=2)
        links = module.get_buffer("links")
        allowed = torch.stack([pairs(*sizes, linked_by(of, sizes[1]), causal) for of in links])
        for more in (None, mask):
            expected = dense(*given, allowed if more is None else allowed & more)
            same_everywhere(module(*given, mask=more, causal=causal), expected, given)


def test_links_of_bigbird() -> None:
    """Each block has other links, none to what it sees anyway, no two alike; heads differ."""
    links = made("bigbird", "reference", (131, 131), block_size=5).get_buffer("links")
    assert links.shape == (2, 27, 3)
    assert not torch.equal(links[0], links[1])
    for block, row in ((b, r) for head in links for b, r in enumerate(head.tolist())):
        assert len(set(row)) == 3
        assert all(0 < other < 26 and abs(other - block) > 1 for other in row)
    few = made("bigbird", "reference", (20, 20), block_size=5).get_buffer("links")
    assert few[0, 0].tolist().count(-1) == 2  # blocks 0, 1 and 3 are seen: one is left


@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_links_that_are_seen_anyway_count_once(forward: str) -> None:
    """Given links may name a neighbour, a global block, or one block twice."""
    given = drawn(37, 37)
    module = made("bigbird", forward, (37, 37), block_size=5, random_blocks=3)
    module.get_buffer("links")[:] = torch.tensor([3, 3, 0])
    allowed = pairs(
        37,
        37,
        lambda i, j: abs(i // 5 - j // 5) <= 1 or j // 5 in (0, 3, 7) or i // 5 in (0, 7),
        False,
    )
    same_everywhere(module(*given), dense(*given, allowed), given)


def test_links_are_for_one_length() -> None:
    module = made("bigbird", "blocked", (37, 37), block_size=5)
    with pytest.raises(ValueError, match="drawn for 8 blocks of keys, this call has 9"):
        module(*drawn(41, 41))


@pytest.mark.parametrize("top", [1, 5, 30])
@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_the_best_keys_alone_are_seen(forward: str, top: int) -> None:
    given = drawn(23, 29)
    found = made("top_k", forward, (23, 29), top=top)(*given, causal=True)
    scores = (given[0] @ given[1].mT).masked_fill(~pairs(23, 29, lambda i, j: True, True), -1e9)
    rank = scores.argsort(-1, descending=True).argsort(-1)
    allowed = (rank < top) & (scores > -1e8)
    same_everywhere(found, dense(*given, allowed), given)


@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_keys_that_tie_all_stay(forward: str) -> None:
    q, k, v = drawn(3, 8)
    k = k[:, :, :1].expand_as(k)
    found = made("top_k", forward, (3, 8), top=2)(q, k, v)
    torch.testing.assert_close(found, v.mean(2, keepdim=True).expand_as(found))


def test_top_k_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.plugins.attention import top_k

    monkeypatch.setattr(top_k, "BLOCK_ELEMENTS", 4 * 41 * 5)
    for sizes in ((23, 41), (41, 23)):
        given = drawn(*sizes)
        full = torch.rand(2, 2, *sizes, generator=torch.Generator().manual_seed(4)) < 0.6
        for mask in (None, key_mask(sizes[1]), full):
            found, expected = (
                made("top_k", forward, sizes, top=4)(*given, mask=mask, causal=True)
                for forward in ("blocked", "reference")
            )
            same_everywhere(found, expected, given)


# Spans


@sizes_and_causal
def test_spans_have_soft_edges(sizes: tuple[int, int], causal: bool) -> None:
    q, k, v = given = drawn(*sizes)
    offset = sizes[1] - sizes[0]
    for forward in ("reference", "chunked"):
        module = made("adaptive_span", forward, sizes, max_span=9, ramp=4)
        span = module.get_parameter("span")
        rows = []
        for row in range(sizes[0]):
            distance = (row + offset - torch.arange(sizes[1])).double()
            soft = (1 + (9 * span[:, None] - distance.abs()) / 4).clamp(0, 1)  # (H, Nk)
            soft = soft * (distance >= 0) if causal else soft
            weights = soft * torch.exp(torch.einsum("bhd,bhjd->bhj", q[:, :, row], k) / 2)
            total = weights.sum(-1, keepdim=True)
            weights = weights / total.masked_fill(total == 0, 1)
            rows.append(torch.einsum("bhj,bhjd->bhd", weights, v))
        found = module(*given, causal=causal)
        same_everywhere(found, torch.stack(rows, 2), [*given, span])


# Hierarchies


@pytest.mark.parametrize("sizes", [(37, 37), (23, 41), (41, 23), (131, 131), (1, 37), (300, 17)])
def test_hierarchical_scores_are_products_of_means(sizes: tuple[int, int]) -> None:
    given = drawn(*sizes)
    q, k, v = given
    offset, block = sizes[1] - sizes[0], 4
    mask = key_mask(sizes[1])

    def mean(x: Tensor, places: list[int]) -> Tensor:
        return x[:, :, places].mean(2)

    q_groups: dict[tuple[int, int], Tensor] = {}
    k_groups: dict[tuple[int, int], Tensor] = {}
    scores = []
    for row in range(sizes[0]):
        i, line = row + offset, []
        for j in range(sizes[1]):
            level = 0
            while abs((i >> level) // block - (j >> level) // block) > 1:
                level += 1
            one, two = (level, i >> level), (level, j >> level)
            if one not in q_groups:
                rows = [r for r in range(sizes[0]) if (r + offset) >> level == one[1]]
                q_groups[one] = mean(q, rows)
            if two not in k_groups:
                k_groups[two] = mean(k, [c for c in range(sizes[1]) if c >> level == two[1]])
            line.append((q_groups[one] * k_groups[two]).sum(-1) / 2)
        scores.append(torch.stack(line, -1))
    expected = torch.stack(scores, 2).softmax(-1) @ v
    for forward in ("reference", "coarsened"):
        same_everywhere(
            made("hierarchical", forward, sizes, block_size=block)(*given), expected, given
        )
    masked = [
        made("hierarchical", forward, sizes, block_size=block)(*given, mask=mask)
        for forward in ("coarsened", "reference")
    ]
    same_everywhere(*masked, given)


def test_hierarchical_is_not_causal() -> None:
    given = drawn(37, 37)
    with pytest.raises(UnsupportedError, match="does not allow the pattern causal_self"):
        made("hierarchical", "coarsened", (37, 37))(*given, causal=True)


# Grids


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("grid", "size"), [((7, 5), 3), ((8, 8), 4), ((4, 9), 4), ((3, 3), 5)])
def test_swin_windows_written_out(
    grid: tuple[int, int], size: int, shifted: bool, layer: int
) -> None:
    height, width = grid
    n = height * width
    given = drawn(n, n)
    borders = []
    for length in grid:
        begin = size // 2 if shifted != (layer == 1) and length > size else 0
        borders.append([begin + size * step for step in range(-1, length)])

    def part(of: int, x: int) -> int:
        return sum(x >= border for border in borders[of])

    together = pairs(
        n,
        n,
        lambda i, j: (
            part(0, i // width) == part(0, j // width) and part(1, i % width) == part(1, j % width)
        ),
        False,
    )
    for forward in ("reference", "windowed"):
        module = made("swin", forward, (n, n), (grid,), window=size, shifted=shifted)
        table = module.get_parameter("position_bias")
        bias = torch.zeros(2, n, n, dtype=torch.float64)
        for i, j in together.nonzero().tolist():
            down, right = i // width - j // width, i % width - j % width
            bias[:, i, j] = table[:, down + size - 1, right + size - 1]
        for mask in (None, key_mask(n)):
            seen = together if mask is None else together & mask
            weights = ((given[0] @ given[1].mT / 2 + bias).exp() * seen).double()
            total = weights.sum(-1, keepdim=True)
            expected = weights / total.masked_fill(total == 0, 1) @ given[2]
            found = module(*given, grid=(grid,), layer=layer, mask=mask)
            same_everywhere(found, expected, [*given, table])


def test_swin_says_what_it_needs() -> None:
    module = made("swin", "windowed", (6, 6), ((2, 3),))
    with pytest.raises(UnsupportedError, match="needs a grid"):
        module(*drawn(6, 6))
    with pytest.raises(UnsupportedError, match="one level"):
        module(*drawn(6, 6), grid=((2, 2), (1, 2)))
    assert module(*drawn(6, 6), grid=((2, 3),)).shape == (2, 2, 6, 4)


GRIDS = [((5, 7),), ((4, 6), (2, 3)), ((1, 1), (3, 5), (2, 2))]


@pytest.mark.parametrize("q_len", [None, 9])
@pytest.mark.parametrize("grid", GRIDS)
def test_deformable_is_grid_sample(grid: Any, q_len: int | None) -> None:
    """Samples by torch's own bilinear interpolation, offsets and weights by loops."""
    n = sum(h * w for h, w in grid)
    q_len = q_len or n
    q, _, v = given = drawn(q_len, n)
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(2, q_len, 2, generator=generator, dtype=torch.float64)
    for forward in ("reference", "gathered"):
        module = made("deformable", forward, (q_len, n), grid, points=3)
        torch.nn.init.normal_(module.get_parameter("b_weight"), generator=generator)
        p = dict(module.named_parameters())
        rows = q.transpose(1, 2).reshape(2, q_len, -1)
        offsets = (rows @ p["w_offset"].mT + p["b_offset"]).view(2, q_len, 2, len(grid), 3, 2)
        weights = (rows @ p["w_weight"].mT + p["b_weight"]).view(2, q_len, 2, -1).softmax(-1)
        weights = weights.view(2, q_len, 2, len(grid), 3)
        mask = key_mask(n)
        for more in (None, mask):
            values = v if more is None else v * more.mT
            expected = []
            for head in range(2):
                total, begin = 0.0, 0
                for level, (height, width) in enumerate(grid):
                    image = values[:, head, begin : begin + height * width]
                    image = image.mT.reshape(2, 4, height, width)
                    begin += height * width
                    size = torch.tensor([width, height], dtype=torch.float64)
                    at = points[:, :, None] + offsets[:, :, head, level] / size
                    samples = F.grid_sample(image, 2 * at - 1, align_corners=False)
                    total = total + (samples * weights[:, None, :, head, level]).sum(-1)
                expected.append(total.mT)
            found = module(*given, reference_points=points, grid=grid, mask=more)
            leaves = [q, v, *p.values()]
            same_everywhere(found, torch.stack(expected, 1), leaves)


@pytest.mark.parametrize("forward", ["reference", "gathered"])
def test_offsets_of_zero_gather_the_reference_points(forward: str) -> None:
    grid = ((5, 7),)
    given = drawn(35, 35)
    module = made("deformable", forward, (35, 35), grid)
    for name in ("w_offset", "b_offset"):
        torch.nn.init.zeros_(module.get_parameter(name))
    order = torch.randperm(35, generator=torch.Generator().manual_seed(0))
    column, row = (order % 7).double(), (order // 7).double()
    points = torch.stack([(column + 0.5) / 7, (row + 0.5) / 5], -1)
    points = points.expand(2, -1, -1)
    found = module(*given, reference_points=points, grid=grid)
    torch.testing.assert_close(found, given[2][:, :, order], rtol=1e-12, atol=1e-12)
    # One cell to the right and two down is another gather; beyond the map there is nothing.
    with torch.no_grad():
        module.get_parameter("b_offset").view(-1, 2).copy_(torch.tensor([1.0, 2.0]))
    right, down = order % 7 + 1, order // 7 + 2
    inside = ((right < 7) & (down < 5))[:, None]
    moved = given[2][:, :, down.clamp(max=4) * 7 + right.clamp(max=6)] * inside
    found = module(*given, reference_points=points, grid=grid)
    torch.testing.assert_close(found, moved, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_deformable_on_a_sequence_written_out(causal: bool) -> None:
    q, _, v = given = drawn(13, 17)
    points = torch.rand(2, 13, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for forward in ("reference", "gathered"):
        module = made("deformable", forward, (13, 17), points=2)
        p = {name: parameter.detach() for name, parameter in module.named_parameters()}
        rows = q.detach().transpose(1, 2).reshape(2, 13, -1)
        offsets = (rows @ p["w_offset"].mT + p["b_offset"]).view(2, 13, 2, 2)
        weights = (rows @ p["w_weight"].mT + p["b_weight"]).view(2, 13, 2, 2).softmax(-1)
        expected = torch.zeros(2, 2, 13, 4, dtype=torch.float64)
        for b, h, r, s in torch.cartesian_prod(*map(torch.arange, (2, 2, 13, 2))).tolist():
            at = float(points[b, r, 0] * 17 - 0.5 + offsets[b, r, h, s])
            for j in (math.floor(at), math.floor(at) + 1):
                if 0 <= j < 17 and not (causal and j > r + 4):
                    expected[b, h, r] += (
                        weights[b, r, h, s] * (1 - abs(at - j)) * v[b, h, j].detach()
                    )
        found = module(*given, reference_points=points, causal=causal)
        torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-11)


def test_parameters_of_deformable_are_for_one_kind_of_grid() -> None:
    module = made("deformable", "gathered", (30, 30), ((4, 6), (2, 3)))
    points = torch.rand(2, 30, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="drawn for one kind of grid"):
        module(*drawn(30, 30), reference_points=points, grid=((5, 6),))


# Parts


def test_parts_are_merged_as_if_they_were_one() -> None:
    q, k, v = given = drawn(9, 30)
    allowed = torch.rand(2, 2, 9, 30, generator=torch.Generator().manual_seed(0)) < 0.5
    allowed[:, :, 0] = False
    allowed[:, :, 1, :10] = False
    cuts = [slice(0, 10), slice(10, 11), slice(11, 30)]
    parts = [dense_part(q, k[:, :, c], v[:, :, c], allowed=allowed[..., c]) for c in cuts]
    found, total = merged(*parts)
    same_everywhere(found, dense(q, k, v, allowed), given)
    expected = (q @ k.mT / 2).masked_fill(~allowed, -math.inf).logsumexp(-1, keepdim=True)
    torch.testing.assert_close(total[:, :, 1:], expected[:, :, 1:])


@pytest.mark.parametrize("length", [1, 6, 7])
def test_residues_are_taken_apart_and_together(length: int) -> None:
    x = torch.arange(2.0 * 3 * length).view(2, 3, length, 1)
    apart = of_residues(x, 3)
    assert apart.shape == (2, 9, -(-length // 3), 1)
    assert torch.equal(interleaved(apart, 3, length), x)
    assert apart[0, 2, -1] == x[0, 0, -1]  # the last place stands in the last residue


@pytest.mark.parametrize("heads", [1, 3])  # groups run along blocks, or along heads
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_a_band_with_a_bias(heads: int, blocks: int) -> None:
    n = BLOCK * (blocks - 1) + 3
    q, k, v = given = drawn(n, n, heads)
    bias = torch.randn(heads, 12, dtype=torch.float64, requires_grad=True)
    distance = torch.arange(n) - torch.arange(n)[:, None]
    within = (distance >= -7) & (distance <= 4)
    scores = q @ k.mT / 2 + bias[:, (distance + 7).clamp(0, 11)]
    expected = scores.masked_fill(~within, -math.inf).softmax(-1) @ v
    found, total = banded_attention(q, k, v, before=7, after=4, bias=bias)
    same_everywhere(found, expected, [*given, bias])
    expected = scores.masked_fill(~within, -math.inf).logsumexp(-1, keepdim=True)
    same_everywhere(total, expected, [q, k, bias])


@pytest.mark.parametrize("of", ["output", "total", "both"])
def test_a_band_is_differentiated_twice(of: str) -> None:
    """Gradients of a function of all gradients, with a query that sees no key."""
    n = 9
    leaves = [*drawn(n, n, 2), torch.randn(2, 4, dtype=torch.float64, requires_grad=True)]
    keys = torch.ones(n, dtype=torch.bool)
    keys[:4] = False
    distance = torch.arange(n) - torch.arange(n)[:, None]
    within = (distance >= -2) & (distance <= 1) & keys
    alone = ~within.any(-1, keepdim=True)
    weight = torch.randn(n, 1, dtype=torch.float64).masked_fill(alone, 0.0)

    def dense(q, k, v, bias):
        scores = q @ k.mT / 2 + bias[:, (distance + 2).clamp(0, 3)]
        scores = scores.masked_fill(~within, -1e30)
        weights = scores.softmax(-1).masked_fill(~within, 0.0)
        return weights @ v, scores.logsumexp(-1, keepdim=True)

    def banded(q, k, v, bias):
        return banded_attention(q, k, v, before=2, after=1, keys=keys, bias=bias)

    def second(attend):
        output, total = attend(*leaves)
        loss = 0.0
        if of != "total":
            loss = loss + (output.square() * weight).sum()
        if of != "output":
            loss = loss + (total.masked_fill(alone, 0.0).square() * weight).sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        penalty = sum(x.square().sum() for x in first if x is not None)
        return torch.autograd.grad(penalty, leaves, allow_unused=True, materialize_grads=True)

    for expected, found in zip(second(dense), second(banded), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


# Costs

LINEAR = [
    "sliding_window",
    "sink_window",
    "dilated_window",
    "longformer",
    "adaptive_span",
    "bigbird",
    "hierarchical",
    "swin",
    "deformable",
]


@pytest.mark.parametrize("name", [*LINEAR, "strided_sparse"])
@pytest.mark.parametrize("direction", ["forward", "training"])
def test_nothing_is_quadratic(name: str, direction: str) -> None:
    """All that is held at once, in training too, is less than one N×N tensor."""
    n = 8192
    grid = ((64, 128),) if name in ("swin", "deformable") else None
    case = Case(
        kind="attention",
        shape=Shape(1, 1, 1, n, n, 16, 16, grid),
        pattern="self",
        options=CATALOG[name].options,
        direction=direction,
    )
    assert counted(CATALOG[name], fast(name), case).peak_bytes < n * n * 4 / 4
    # The measure sees what the reference makes.
    assert counted(CATALOG[name], "reference", case).peak_bytes > n * n * 4


# dynamo makes an instance of the autograd function, which torch itself advises against.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["sliding_window", "longformer", "bigbird"])
def test_compiled(name: str) -> None:
    pytest.importorskip("torch._inductor")
    given = drawn(37, 37)
    module = made(name, fast(name), (37, 37))
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    same_everywhere(compiled(*given), module(*given), given)
