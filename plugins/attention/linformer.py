"""Linformer (Wang et al., 2020, section 4, equation 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from bakeoff import Attention, Case, Forward, Identity, Metadata, Paper, Shape, hookimpl
from bakeoff.plugins.attention._fused import fused_attention
from bakeoff.plugins.attention._linear import visible
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    project_key: torch.Tensor,  # (R, Nk), E in the paper
    project_value: torch.Tensor,  # (R, Nk), F in the paper
    rank: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q (E k)ᵀ / √D) F v; all heads share E and F. Hidden keys and values count as zero."""
    dtype = q.dtype
    q, k, v, project_key, project_value = wide(q, k, v, project_key, project_value)
    if mask is not None:
        shown = mask.broadcast_to(*k.shape[:2], 1, k.shape[2]).mT  # (B, H, Nk, 1)
        k, v = k.where(shown, 0.0), v.where(shown, 0.0)
    key = torch.einsum("rn,bhnd->bhrd", project_key, k)
    value = torch.einsum("rn,bhnd->bhrd", project_value, v)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return ((q @ key.mT * scale).softmax(-1) @ value).to(dtype)  # weights (B, H, Nq, R)


def sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    project_key: torch.Tensor,
    project_value: torch.Tensor,
    rank: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """torch's fused attention over the projected keys and values."""
    key, value = _along(project_key, visible(k, mask)), _along(project_value, visible(v, mask))
    return fused_attention(q, key, value, None, False, scale)


def _along(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """weight @ x as one product for all heads: so is its gradient, which is not summed apart.

    Both are laid out anew where they are parts of larger tensors: torch may read beyond their rows.
    """
    batch, heads, length, dim = x.shape
    columns = x.permute(2, 0, 1, 3).reshape(length, batch * heads * dim)
    rows = weight.contiguous() @ columns.contiguous()
    return rows.view(weight.shape[0], batch, heads, dim).permute(1, 2, 0, 3)


def parameters(
    shape: Shape, generator: torch.Generator | None, rank: int
) -> Mapping[str, torch.Tensor]:
    """Normal, so that projected keys and values are as large as given ones."""

    def drawn() -> nn.Parameter:
        weight = torch.randn(rank, shape.k_len, generator=generator)
        return nn.Parameter(weight / math.sqrt(shape.k_len))

    return {"project_key": drawn(), "project_value": drawn()}


def _identity_weights(shape: Shape) -> Mapping[str, torch.Tensor]:
    return dict.fromkeys(("project_key", "project_value"), torch.eye(shape.k_len))


def flops(case: Case) -> float:
    """The two projections, and attention to as many keys as the rank."""
    shape, rank = case.attention_shape, int(case.options["rank"])
    rows = shape.k_len + shape.q_len
    return 2.0 * shape.batch * shape.heads * rows * rank * (shape.head_dim + shape.value_dim)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Linformer."""
    yield Attention(
        "linformer",
        forwards={
            "reference": Forward(reference, masks="keys", complexity="N", memory="N", flops=flops),
            "sdpa": Forward(sdpa, masks="keys", complexity="N", memory="N", flops=flops),
        },
        options={"rank": 128},
        parameters=parameters,
        identities=(
            Identity(
                "rank = N, projections = identity",
                options=lambda shape: {"rank": shape.k_len},
                tensors=_identity_weights,
                equals="scaled_dot_product",
                unless=lambda shape: {"rank": shape.k_len},
            ),
        ),
        metadata=Metadata(
            title="Linformer",
            summary="Keys and values are projected along the sequence to a fixed number of rows.",
            formula=r"\operatorname{softmax}\!\left(\frac{Q (E K)^\top}{\sqrt{D}}\right) F V,"
            r"\quad E, F \in \mathbb{R}^{r \times N}",
            strengths=(
                "FLOPs and memory grow linearly with the length",
                "fused kernels do the rest",
            ),
            weaknesses=(
                "the parameters are for one number of keys",
                "no causal form: every projected row mixes past and future",
            ),
            use_when="Encoders whose inputs have one fixed, large length.",
            tags=(
                "dot_product",
                "soft",
                "learnable",
                "low_rank",
                "self",
                "cross",
                "global",
                "positional",
                "efficient",
                "long_context",
                "language",
            ),
            section="low-rank",
            paper=Paper(
                title="Linformer: Self-Attention with Linear Complexity",
                authors=(
                    "Sinong Wang",
                    "Belinda Z. Li",
                    "Madian Khabsa",
                    "Han Fang",
                    "Hao Ma",
                ),
                year=2020,
                url="https://arxiv.org/abs/2006.04768",
            ),
            properties={
                "row_stochastic": False,
                "stochastic": False,
                "differentiable": True,
                "patterns": ("self", "cross"),
            },
            unused=("causal",),
        ),
    )
