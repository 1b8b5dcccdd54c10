"""Deformable attention (Zhu et al., 2020, sections 4.1 and appendix A.2, equations 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import (
    Attention,
    Case,
    Forward,
    Identity,
    Metadata,
    Paper,
    Shape,
    UnsupportedError,
    allowed_keys,
    hookimpl,
)
from bakeoff.plugins.attention._empty import with_a_key

Grid = tuple[tuple[int, int], ...]


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D): only its length is read
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    points: int,
    w_offset: torch.Tensor,  # (H·L·P·A, H·D), A axes: 1 on a sequence, 2 on a grid, x before y
    b_offset: torch.Tensor,  # (H·L·P·A,)
    w_weight: torch.Tensor,  # (H·L·P, H·D)
    b_weight: torch.Tensor,  # (H·L·P,)
    reference_points: torch.Tensor,  # (B, Nq, A), within 0 and 1
    grid: Grid | None = None,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Σ_l Σ_p A_lp x^l(φ_l(p_q) + Δp_lp), written as weights of every query for every key.

    Offsets Δp, in cells of their level, and weights A, with a softmax over all levels and points,
    are linear in the query, whose heads are read as the features of one row. Between cells x is
    interpolated linearly, beyond the border it is 0, as it is where the mask hides it. A plain
    sequence is a map of one row. W and W' of equation 3 are left to the layer, as all projections.
    """
    places, weights = _sampled(
        q, points, w_offset, b_offset, w_weight, b_weight, reference_points, grid, v.shape[2]
    )
    levels = []
    for level, (height, width) in enumerate(grid or ((1, v.shape[2]),)):
        cells = torch.arange(height * width, device=q.device)
        row, column = (x.to(places.dtype) for x in (cells // width, cells % width))
        shares = places.new_zeros(*q.shape[:3], height * width)
        for point in range(points):
            x, y = places[..., level, point, :].unsqueeze(-2).unbind(-1)  # (B, H, Nq, 1)
            near = (1 - (x - column).abs()).clamp(min=0) * (1 - (y - row).abs()).clamp(min=0)
            shares = shares + weights[..., level, point, None] * near
        levels.append(shares)
    shares = torch.cat(levels, -1)  # (B, H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    shares = shares if allowed is None else shares.masked_fill(~allowed, 0.0)
    return (shares @ v.to(shares.dtype)).to(v.dtype)


def gathered(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    points: int,
    w_offset: torch.Tensor,
    b_offset: torch.Tensor,
    w_weight: torch.Tensor,
    b_weight: torch.Tensor,
    reference_points: torch.Tensor,
    grid: Grid | None = None,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The cells about every sampled place alone, summed with their weights as they are read."""
    k, v, mask = with_a_key(k, v, mask)
    batch, heads, q_len, _ = q.shape
    k_len = v.shape[2]
    places, weights = _sampled(
        q, points, w_offset, b_offset, w_weight, b_weight, reference_points, grid, k_len
    )
    cells, shares, begin = [], [], 0
    for level, (height, width) in enumerate(grid or ((1, k_len),)):
        corner = places[..., level, :, :].detach().floor()  # (B, H, Nq, P, 2)
        part = places[..., level, :, :] - corner
        for right in (0, 1):
            for lower in (0, 1) if grid else (0,):  # a single row has no other below
                column, row = corner[..., 0] + right, corner[..., 1] + lower
                share = weights[..., level, :]
                share = share * (part[..., 0] if right else 1 - part[..., 0])
                share = share * (part[..., 1] if lower else 1 - part[..., 1])
                exists = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                cell = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
                cells.append(begin + cell.long())
                shares.append(share.masked_fill(~exists, 0.0))
        begin += height * width
    index, share = torch.cat(cells, -1), torch.cat(shares, -1)  # (B, H, Nq, cells)
    if causal:
        place = torch.arange(k_len - q_len, k_len, device=q.device)
        share = share.masked_fill(index > place[:, None], 0.0)
    if mask is not None:
        v = v.masked_fill(~mask.broadcast_to(batch, heads, 1, k_len).mT, 0.0)
    first = k_len * torch.arange(batch * heads, device=q.device).view(batch, heads, 1, 1)
    output = F.embedding_bag(
        (index + first).flatten(0, 2),
        v.to(share.dtype).reshape(batch * heads * k_len, v.shape[-1]),
        per_sample_weights=share.flatten(0, 2),
        mode="sum",
    )
    return output.view(batch, heads, q_len, v.shape[-1]).to(v.dtype)


def _sampled(
    q: torch.Tensor,
    points: int,
    w_offset: torch.Tensor,
    b_offset: torch.Tensor,
    w_weight: torch.Tensor,
    b_weight: torch.Tensor,
    reference_points: torch.Tensor,
    grid: Grid | None,
    k_len: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each query samples (B, H, Nq, L, P, 2), x before y in cells, and with which weights."""
    batch, heads, q_len, dim = q.shape
    axes, levels = (2, len(grid)) if grid else (1, 1)
    if w_offset.shape[0] != heads * levels * points * axes:
        raise ValueError(
            f"deformable: w_offset has {w_offset.shape[0]} rows, expected {heads} heads · {levels} "
            f"levels · {points} points · {axes} axes; parameters are drawn for one kind of grid"
        )
    wide = torch.promote_types(q.dtype, torch.float32)  # half a cell is lost in a half, far out
    rows = q.transpose(1, 2).reshape(batch, q_len, heads * dim).to(wide)
    offsets = F.linear(rows, w_offset.to(wide), b_offset.to(wide))
    offsets = offsets.view(batch, q_len, heads, levels, points, axes).transpose(1, 2)
    weights = F.linear(rows, w_weight.to(wide), b_weight.to(wide))
    weights = weights.view(batch, q_len, heads, levels * points).transpose(1, 2).softmax(-1)
    sizes = [(width, height) for height, width in grid] if grid else [(k_len,)]
    size = torch.tensor(sizes, dtype=wide, device=q.device)[:, None]  # (L, 1, A)
    # The middle of cell c lies at (c + 1/2) / size.
    middle = reference_points.to(wide)[:, None, :, None, None] * size - 0.5
    places = middle + offsets
    if axes == 1:
        places = F.pad(places, (0, 1))  # on the only row
    return places, weights.view(batch, heads, q_len, levels, points)


def parameters(
    shape: Shape, generator: torch.Generator | None, points: int
) -> Mapping[str, torch.Tensor]:
    """Heads look in different directions, the p-th point p cells far (appendix A.4).

    There the weights begin at 0; here offsets and attention depend on the query from the start.
    """
    axes, levels = (2, len(shape.grid)) if shape.grid else (1, 1)
    width = shape.heads * shape.head_dim
    angle = torch.arange(shape.heads) * (2 * math.pi / shape.heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)[:, :axes]
    direction = direction / direction.abs().amax(-1, keepdim=True)
    steps = torch.arange(1.0, points + 1)[:, None]
    bias = direction[:, None, None] * steps  # (H, 1, P, A)
    bias = bias.expand(-1, levels, -1, -1).flatten()
    samples = shape.heads * levels * points

    def normal(rows: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(rows, width, generator=generator) / math.sqrt(width))

    return {
        "w_offset": normal(samples * axes),
        "b_offset": nn.Parameter(bias.clone()),
        "w_weight": normal(samples),
        "b_weight": nn.Parameter(torch.zeros(samples)),
    }


def inputs(
    shape: Shape, generator: torch.Generator | None, points: int
) -> Mapping[str, torch.Tensor]:
    """The places of the queries: cells of the grid where they are these, else evenly apart."""
    if shape.grid is None:
        place = torch.arange(shape.k_len - shape.q_len, shape.k_len) + 0.5
        middles = (place / shape.k_len).clamp(0, 1)[:, None]
    elif shape.q_len == shape.k_len:
        middles = torch.cat([_middles(*size) for size in shape.grid])
    else:
        middles = torch.rand(shape.q_len, 2, generator=generator)
    return {"reference_points": middles.expand(shape.batch, -1, -1).clone()}


def _middles(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([x, y], -1).flatten(0, 1)


def supports(case: Case) -> str | None:
    """A query samples at one point or more."""
    return None if int(case.options["points"]) >= 1 else "points must be at least 1"


def flops(case: Case) -> float:
    """The projections to offsets and weights; the sums over samples are no matrix products."""
    shape = case.attention_shape
    axes, levels = (2, len(shape.grid)) if shape.grid else (1, 1)
    samples = shape.heads * levels * int(case.options["points"])
    return 2.0 * shape.batch * shape.q_len * shape.heads * shape.head_dim * samples * (axes + 1)


def reference_flops(case: Case) -> float:
    """The projections, and the weights of every pair times the values."""
    shape = case.attention_shape
    pairs = 2.0 * shape.batch * shape.heads * case.visible_pairs
    return flops(case) + pairs * shape.value_dim


def _whole_offsets(shape: Shape) -> Mapping[str, torch.Tensor]:
    """From the corner of the map every point of a head goes to the middle of a cell of its own."""
    if shape.grid is not None and len(shape.grid) > 1:
        raise UnsupportedError("said of maps of one level")
    drawn = parameters(shape, None, points=4)
    axes, width = (2, shape.grid[0][1]) if shape.grid else (1, shape.k_len)
    cells = torch.arange(len(drawn["b_weight"])) % shape.k_len
    places = torch.stack([cells % width, cells // width], -1)[:, :axes] + 0.5
    return {
        **{name: torch.zeros_like(tensor) for name, tensor in drawn.items()},
        "b_offset": places.flatten(),
        "reference_points": torch.zeros(shape.batch, shape.q_len, axes),
    }


def _gather(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The mean of four cells, others for each head."""
    cells = torch.arange(4 * q.shape[1], device=q.device).view(-1, 1, 4) % k.shape[2]
    shares = F.one_hot(cells, k.shape[2]).sum(2).to(v) / 4  # (H, 1, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    return (shares if allowed is None else shares * allowed) @ v + v.new_zeros(q.shape[2], 1)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Deformable attention."""
    yield Attention(
        "deformable",
        forwards={
            "reference": Forward(
                reference,
                supports=supports,
                complexity="N^2",
                memory="N^2",
                flops=reference_flops,
            ),
            "gathered": Forward(
                gathered, supports=supports, masks="keys", complexity="N", memory="N", flops=flops
            ),
        },
        options={"points": 4},
        parameters=parameters,
        inputs=inputs,
        identities=(Identity("whole offsets", tensors=_whole_offsets, equals=_gather),),
        metadata=Metadata(
            title="Deformable attention",
            summary="Each query predicts a few places to look at, and how much each weighs.",
            formula=r"o_q = \sum_l \sum_p A_{lpq}\, x^l\!\left(\phi_l(\hat p_q) + \Delta p_{lpq}"
            r"\right)",
            strengths=(
                "cost does not depend on how large the map is",
                "looks at several resolutions at once",
            ),
            weaknesses=(
                "a place is chosen without looking at it: there are no keys",
                "a gradient from the nearest cells alone",
                "gathers instead of matrix products",
            ),
            use_when="Detection and segmentation over maps of several resolutions.",
            tags=(
                "location",
                "soft",
                "learnable",
                "self",
                "cross",
                "sparse",
                "dynamic",
                "positional",
                "efficient",
                "vision",
                "detection",
            ),
            section="dynamic",
            paper=Paper(
                title="Deformable DETR: Deformable Transformers for End-to-End Object Detection",
                authors=(
                    "Xizhou Zhu",
                    "Weijie Su",
                    "Lewei Lu",
                    "Bin Li",
                    "Xiaogang Wang",
                    "Jifeng Dai",
                ),
                year=2020,
                url="https://arxiv.org/abs/2010.04159",
            ),
            unused=("k", "scale"),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
