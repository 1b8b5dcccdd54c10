"""cosFormer (Qin et al., 2022, section 3.2, equations 9 to 12)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bakeoff import Attention, Case, Forward, Metadata, Paper, allowed_keys, hookimpl
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._linear import (
    aligned_scan,
    counted,
    mean_of,
    mean_product,
    scan_flops,
    visible,
)
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Weights relu(q_i)·relu(k_j) cos(π/2 · (i − j)/M), divided by their sum over j.

    M is the longer of both lengths, as in the authors' code; positions are aligned at the lower
    right.
    """
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v = wide(q, k, v)
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    angle = (i - j).to(q.dtype) * (math.pi / 2 / max(1, q_len, k_len))  # (Nq, Nk)
    weights = q.relu() @ k.relu().mT * angle.cos()  # (B, H, Nq, Nk)
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights @ v / total.masked_fill(total == 0, 1.0)).to(dtype)


def linear(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Ptolemy's identity, cos(a − b) = cos a cos b + sin a sin b, makes it a sum over keys."""
    (q_len, k_len), dtype = (q.shape[2], k.shape[2]), q.dtype
    q, k, v = wide(q, k, v)
    # Counted so that every angle is within a right one: no sine or cosine is negative.
    q = _turned(q, max(0, k_len - q_len), max(q_len, k_len))
    k = visible(_turned(k, max(0, q_len - k_len), max(q_len, k_len)), mask)
    if causal:
        return mean_of(aligned_scan(q, k, counted(v))).to(dtype)
    return mean_product(q, k, v).to(dtype)


def _turned(x: torch.Tensor, first: int, longest: int) -> torch.Tensor:
    """[relu(x) cos a, relu(x) sin a], with a growing from position ``first`` on: (…, N, 2 D)."""
    place = torch.arange(first, first + x.shape[2], device=x.device, dtype=x.dtype)
    angle = (place * (math.pi / 2 / max(1, longest)))[:, None]
    x = x.relu()
    return torch.cat([x * angle.cos(), x * angle.sin()], -1)


def flops(case: Case) -> float:
    """The sums of 2 D × (Dv + 1) products."""
    shape = case.attention_shape
    return scan_flops(case, 2 * shape.head_dim, shape.value_dim + 1)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """cosFormer."""
    yield Attention(
        "cosformer",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "linear": Forward(linear, masks="keys", complexity="N", memory="N", flops=flops),
        },
        metadata=Metadata(
            title="cosFormer",
            summary="A rectified kernel that prefers near keys by the cosine of the distance.",
            formula=r"o_i = \frac{\sum_j w_{ij} v_j}{\sum_j w_{ij}},\quad w_{ij} = "
            r"\operatorname{ReLU}(q_i)^\top \operatorname{ReLU}(k_j)"
            r"\cos\!\left(\frac{\pi}{2} \cdot \frac{i - j}{M}\right)",
            strengths=(
                "FLOPs and memory grow linearly with the length",
                "near keys weigh more, as in trained softmax attention",
            ),
            weaknesses=(
                "twice the features of linear attention",
                "weights depend on the longest length: no generation without end",
                "a query whose products all vanish sees nothing",
            ),
            use_when="Long documents in which what is near matters more, encoder or decoder.",
            tags=(
                "kernel",
                "soft",
                "self",
                "cross",
                "global",
                "positional",
                "efficient",
                "long_context",
                "language",
            ),
            section="efficient",
            paper=Paper(
                title="cosFormer: Rethinking Softmax in Attention",
                authors=(
                    "Zhen Qin",
                    "Weixuan Sun",
                    "Hui Deng",
                    "Dongxu Li",
                    "Yunshen Wei",
                    "Baohong Lv",
                    "Junjie Yan",
                    "Lingpeng Kong",
                    "Yiran Zhong",
                ),
                year=2022,
                url="https://arxiv.org/abs/2202.08791",
            ),
            # It is a mean of values, unless all weights of a query vanish.
            properties={"stochastic": False, "differentiable": True, "relative": False},
            unused=("scale",),
        ),
    )
