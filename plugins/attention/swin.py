"""Shifted-window attention: Swin Transformer (Liu et al., 2021, section 3.2)."""

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
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.registry.layout import pack_rows

Grid = tuple[tuple[int, int], ...]


def reference(
    q: torch.Tensor,  # (B, H, N, D)
    k: torch.Tensor,  # (B, H, N, D)
    v: torch.Tensor,  # (B, H, N, Dv)
    *,
    window: int,
    shifted: bool,
    position_bias: torch.Tensor,  # (H, 2·window − 1, 2·window − 1)
    grid: Grid,
    layer: int = 0,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """SoftMax(q kᵀ / √d + B) v within each window of the map (equation 4), as a mask on all pairs.

    Regular and shifted windows take turns from layer to layer (equation 3); ``shifted`` says that
    layer 0 begins with shifted ones. They are displaced by half a window, and at the border cut
    off. B is looked up by the distance between two places of the map.
    """
    q, k, v = map(pack_rows, (q, k, v))
    ((height, width),) = grid
    place = torch.arange(height * width, device=q.device)
    apart, distance = [], []
    for length, x in ((height, place // width), (width, place % width)):
        shift = _shift(length, window, shifted, layer)
        of = (x - shift).div(window, rounding_mode="floor")
        apart.append(of[:, None] != of)
        distance.append((x[:, None] - x).clamp(1 - window, window - 1) + window - 1)
    together = ~(apart[0] | apart[1])  # (N, N)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale + position_bias[:, distance[0], distance[1]]  # (B, H, N, N)
    allowed = together if mask is None else together & mask
    return masked_softmax(scores, allowed_keys(q, k, allowed)) @ v


def windowed(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    shifted: bool,
    position_bias: torch.Tensor,
    grid: Grid,
    layer: int = 0,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The map cut into windows, each a batch entry of one product; cut-off ones are padded."""
    ((height, width),) = grid
    batch, heads = q.shape[:2]
    pads = []
    for length in (height, width):
        before = -_shift(length, window, shifted, layer) % window
        pads.append((before, -(before + length) % window))
    rows, columns = ((b + n + a) // window for (b, a), n in zip(pads, grid[0], strict=True))

    def cut(x: torch.Tensor) -> torch.Tensor:  # (B, H, N, D) -> (B, H, windows, window², D)
        x = x.reshape(*x.shape[:2], height, width, x.shape[-1])
        x = F.pad(x, (0, 0, *pads[1], *pads[0]))
        x = x.view(*x.shape[:2], rows, window, columns, window, x.shape[-1]).transpose(3, 4)
        return x.flatten(4, 5).flatten(2, 3)

    if mask is None:
        mask = torch.ones(1, 1, 1, height * width, dtype=torch.bool, device=q.device)
    keys = mask.expand(*mask.shape[:-1], height * width)[(None,) * (4 - mask.dim())]
    inside = torch.arange(window, device=q.device)
    distance = inside[:, None] - inside + window - 1  # (window, window)
    bias = position_bias[:, distance[:, None, :, None], distance[None, :, None, :]]
    bias = bias.flatten(3, 4).flatten(1, 2)  # (H, window², window²)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = cut(q) @ cut(k).mT * scale + bias[:, None]
    output = masked_softmax(scores, cut(keys.mT).mT) @ cut(v)  # (B, H, windows, window², Dv)

    output = output.view(batch, heads, rows, columns, window, window, v.shape[-1])
    output = output.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    (top, _), (left, _) = pads
    return output[:, :, top : top + height, left : left + width].flatten(2, 3)


def _shift(length: int, window: int, shifted: bool, layer: int) -> int:
    """Where the first whole window begins; an axis that one window covers is not shifted."""
    return window // 2 if shifted != bool(layer % 2) and length > window else 0


def parameters(
    shape: Shape, generator: torch.Generator | None, window: int, shifted: bool
) -> Mapping[str, torch.Tensor]:
    """The relative position bias of each head, normal with a deviation of 0.02."""
    side = 2 * window - 1
    bias = 0.02 * torch.randn(shape.heads, side, side, generator=generator)
    return {"position_bias": nn.Parameter(bias)}


def _covering(shape: Shape) -> Mapping[str, int]:
    return {"window": max(_one_level(shape))}


def _without_bias(shape: Shape) -> Mapping[str, torch.Tensor]:
    side = 2 * max(_one_level(shape)) - 1
    return {"position_bias": torch.zeros(shape.heads, side, side)}


def _one_level(shape: Shape) -> tuple[int, int]:
    if shape.grid is None or len(shape.grid) > 1:
        raise UnsupportedError("said of maps of one level")
    return shape.grid[0]


def supports(case: Case) -> str | None:
    """Windows are cut out of one map, whose positions are queries and keys."""
    shape = case.attention_shape
    if int(case.options["window"]) < 1:
        return "window must be at least 1"
    if shape.grid is None:
        return "it needs a grid: windows and their bias are two-dimensional"
    if len(shape.grid) > 1:
        return "it needs a grid of one level"
    return None if shape.q_len == shape.k_len else "its queries are the positions of the grid"


def flops(case: Case) -> float:
    """Two products of every query with the keys of its window."""
    shape = case.attention_shape
    keys = min(shape.k_len, int(case.options["window"]) ** 2)
    return 2.0 * shape.batch * shape.heads * shape.q_len * keys * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Swin attention."""
    yield Attention(
        "swin",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=pair_flops
            ),
            "windowed": Forward(
                windowed, supports=supports, masks="keys", complexity="N", memory="N", flops=flops
            ),
        },
        options={"window": 7, "shifted": False},
        parameters=parameters,
        identities=(
            Identity(
                "window >= map, bias = 0",
                options=_covering,
                tensors=_without_bias,
                equals="scaled_dot_product",
                unless=lambda shape: {"window": 2},
            ),
        ),
        metadata=Metadata(
            title="Shifted-window attention",
            summary="Attention within square windows of a map, displaced by half from layer to "
            "layer.",
            formula=r"o_i = \sum_{j \in W(i)} \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}} + B_{i-j}\right) v_j",
            strengths=(
                "FLOPs and memory grow linearly with the area of the map",
                "windows are batched products: fast on any hardware",
            ),
            weaknesses=(
                "what is far apart meets only after many layers",
                "a window cut off at the border costs as much as a whole one",
            ),
            use_when="Images at high resolution, as a backbone with stages.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "self",
                "local",
                "hierarchical",
                "positional",
                "efficient",
                "vision",
                "detection",
            ),
            section="hierarchical",
            paper=Paper(
                title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
                authors=(
                    "Ze Liu",
                    "Yutong Lin",
                    "Yue Cao",
                    "Han Hu",
                    "Yixuan Wei",
                    "Zheng Zhang",
                    "Stephen Lin",
                    "Baining Guo",
                ),
                year=2021,
                url="https://arxiv.org/abs/2103.14030",
            ),
            unused=("causal",),
            properties={
                "row_stochastic": True,
                "patterns": ("self",),
                "stochastic": False,
                "differentiable": True,
            },
        ),
    )
