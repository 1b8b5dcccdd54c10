"""Rotary position embedding (Su et al., 2021, section 3.2.2, equations 13 to 16)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bakeoff import (
    Attention,
    Forward,
    Metadata,
    Paper,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    base: float,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax((R_i q_i) · (R_j k_j) / √D) v; R_m turns the pair (2t, 2t + 1) by m · base^(−2t/D).

    Positions are aligned at the lower right. Where D is odd its last feature is not turned.
    """
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v = wide(q, k, v)
    q = _rotated(q, _angles(q, k_len - q_len, base))
    k = _rotated(k, _angles(k, 0, base))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return (masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v).to(dtype)


def _rotated(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Equation 34: every pair times the matrix of its rotation."""
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    pairs = x.shape[-1] // 2
    first, second, rest = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2], x[..., 2 * pairs :]
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], -1)
    return torch.cat([turned.flatten(-2), rest], -1)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    base: float,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Pairs as complex numbers, turned by one product, then torch's fused attention."""
    offset = k.shape[-2] - q.shape[-2]
    q, k = _turned(q, _angles(q, offset, base)), _turned(k, _angles(k, 0, base))
    return fused_attention(q, k, v, mask, causal, scale)


def _turned(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    even = x.shape[-1] // 2 * 2
    (exact,) = wide(x)
    pairs = torch.complex(exact[..., 0:even:2], exact[..., 1:even:2])
    turns = torch.polar(torch.ones_like(angles), angles).to(pairs.dtype)
    turned = torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)
    return turned if even == x.shape[-1] else torch.cat([turned, x[..., even:]], -1)


def _angles(x: torch.Tensor, first: int, base: float) -> torch.Tensor:
    """The angle of each position and pair, (N, ⌊D/2⌋), exact however far the position."""
    length, dim = x.shape[-2:]
    position = torch.arange(first, first + length, dtype=torch.float64, device=x.device)
    pair = torch.arange(dim // 2, dtype=torch.float64, device=x.device)
    return position[:, None] * base ** (-2 * pair / dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Attention with rotary positions."""
    yield Attention(
        "rotary",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "sdpa": Forward(sdpa, complexity="N^2", memory="N", flops=pair_flops),
        },
        options={"base": 10000.0},
        metadata=Metadata(
            title="Rotary attention (RoPE)",
            summary="Queries and keys are turned by their position: scores see the distance.",
            formula=r"o_i = \sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i^\top R_{j-i}\, k_j}{\sqrt{D}}\right) v_j",
            strengths=(
                "relative positions without a parameter or a bias",
                "works with every fused kernel and with a KV cache",
            ),
            weaknesses=("breaks down beyond the lengths of training",),
            use_when="Language models, as the default way to tell positions apart.",
            tags=("dot_product", "soft", "self", "cross", "positional", "language"),
            section="beyond the textbook",
            paper=Paper(
                title="RoFormer: Enhanced Transformer with Rotary Position Embedding",
                authors=(
                    "Jianlin Su",
                    "Yu Lu",
                    "Shengfeng Pan",
                    "Ahmed Murtadha",
                    "Bo Wen",
                    "Yunfeng Liu",
                ),
                year=2021,
                url="https://arxiv.org/abs/2104.09864",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
            aliases=("rope",),
        ),
    )
