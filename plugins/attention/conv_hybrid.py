"""Attention beside depthwise convolution (Wu et al., 2020, section 4)."""

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
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    kernel: int,
    weight: torch.Tensor,  # (H, Dv // 2, K), the place of the query in the middle
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Half of each head's values go through attention, half through a depthwise convolution.

    The convolution obeys the mask as the attention does: what a query may not see counts as zero.
    Positions are aligned at the lower right.
    """
    (q_len, k_len), dtype = (q.shape[-2], k.shape[-2]), q.dtype
    q, k, v, weight = wide(q, k, v, weight)
    local = weight.shape[1]
    far, near = v[..., : v.shape[-1] - local], v[..., v.shape[-1] - local :]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    allowed = allowed_keys(q, k, mask, causal)
    attended = masked_softmax(q @ k.mT * scale, allowed) @ far
    i = torch.arange(k_len - q_len, k_len, device=q.device)[:, None]
    j = torch.arange(k_len, device=q.device)
    convolved = q.new_zeros(*q.shape[:3], local)
    for tap in range(weight.shape[2]):
        here = j == i + tap - weight.shape[2] // 2  # (Nq, Nk)
        if allowed is not None:
            here = here & allowed
        convolved = convolved + (here.to(near) @ near) * weight[:, None, :, tap]
    return torch.cat([attended, convolved], -1).to(dtype)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    kernel: int,
    weight: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention over one half, torch's depthwise convolution over the other."""
    heads, local, width = weight.shape
    batch, _, k_len, _ = v.shape
    far, near = v[..., : v.shape[-1] - local], v[..., v.shape[-1] - local :]
    attended = fused_attention(q, k, far, mask, causal, scale)
    if not local:
        return attended
    if mask is not None:
        seen = mask.expand(batch, heads, 1, k_len)[:, :, 0, :, None]
        near = near.masked_fill(~seen, 0.0)
    before, after = width // 2, width - 1 - width // 2
    if causal:  # the taps after the middle read what is not yet to be seen
        weight, after = weight[..., : before + 1], 0
    # So much before the first key that the first query finds it in the middle; cut if negative.
    rows = max(1, q.shape[2])  # an output of no rows is none to torch
    first = before - (k_len - rows)
    channels = F.pad(near.mT.reshape(batch, heads * local, k_len), (first, after))
    convolved = F.conv1d(channels, weight.flatten(0, 1)[:, None], groups=heads * local)
    convolved = convolved.view(batch, heads, local, rows).mT
    return torch.cat([attended, convolved[:, :, : q.shape[2]]], -1)


def parameters(
    shape: Shape, generator: torch.Generator | None, *, kernel: int
) -> Mapping[str, torch.Tensor]:
    """Normal with variance 1/K, so that the convolution keeps the size of the values."""
    size = (shape.heads, shape.value_dim // 2, kernel)
    return {"weight": nn.Parameter(torch.randn(size, generator=generator) / math.sqrt(kernel))}


def needs_a_tap(case: Case) -> str | None:
    """A convolution of no width is none."""
    return None if int(case.options["kernel"]) > 0 else "the kernel needs at least one tap"


def flops(case: Case) -> float:
    """Scores, a product with half of the values, and the taps of the convolution."""
    shape = case.attention_shape
    local = shape.value_dim // 2
    products = shape.head_dim + shape.value_dim - local
    taps = shape.q_len * local * int(case.options["kernel"])
    return 2.0 * shape.batch * shape.heads * (case.visible_pairs * products + taps)


def _attention_alone(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    output = masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v
    far = v.shape[-1] - v.shape[-1] // 2
    return torch.cat([output[..., :far], torch.zeros_like(output[..., far:])], -1)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Attention and convolution side by side."""
    yield Attention(
        "conv_hybrid",
        forwards={
            "reference": Forward(reference, supports=needs_a_tap, complexity="N^2", memory="N^2"),
            "sdpa": Forward(
                sdpa,
                supports=needs_a_tap,
                masks="keys",
                complexity="N^2",
                memory="N",
                flops=flops,
            ),
        },
        options={"kernel": 31},
        parameters=parameters,
        identities=(
            Identity(
                "kernel of zeros",
                tensors=lambda shape: {
                    "weight": torch.zeros(shape.heads, shape.value_dim // 2, 31)
                },
                equals=_attention_alone,
            ),
        ),
        metadata=Metadata(
            title="Attention with depthwise convolution (LSRA)",
            summary="Half of each head looks far by attention, half looks near by convolution.",
            formula=r"o_i = \left[\sum_j \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right) v_j^{far};\ "
            r"\sum_t w_t \odot v_{i+t}^{near}\right]",
            strengths=(
                "attention is left with what is far: the near is learned cheaply",
                "the convolution costs next to nothing",
            ),
            weaknesses=("the near half knows no content", "one more kernel size to choose"),
            use_when="Speech, and small models of language, in which the near counts most.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "hybrid",
                "local",
                "self",
                "cross",
                "mobile",
                "language",
            ),
            section="hybrid",
            paper=Paper(
                title="Lite Transformer with Long-Short Range Attention",
                authors=("Zhanghao Wu", "Zhijian Liu", "Ji Lin", "Yujun Lin", "Song Han"),
                year=2020,
                url="https://arxiv.org/abs/2004.11886",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
