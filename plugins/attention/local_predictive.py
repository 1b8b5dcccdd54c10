"""Local attention around a predicted place (Luong et al., 2015, section 3.2, ``local-p``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

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
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._empty import with_a_key
from bakeoff.plugins.attention._precision import wide

#: Elements of the keys that are gathered at once: 4 MiB in float32.
BLOCK_ELEMENTS = 2**20


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    window: int,
    w_place: torch.Tensor,  # (D, D)
    v_place: torch.Tensor,  # (D,)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Σ_j softmax_j(q_i · k_j) exp(−(j − p_i)² / 2σ²) v_j over |j − p_i| ≤ window = 2σ.

    p_i = S σ(vᵀ tanh(W q_i)) with S the number of keys that the row sees: the paper's source ends
    there. What mask or ``causal`` hide counts as not there, in S and in the places j. The score is
    the paper's ``dot``; a scale, where given, multiplies it. What the window hides takes no part in
    the softmax.
    """
    dtype = q.dtype
    q, k, v, w_place, v_place = wide(q, k, v, w_place, v_place)  # places beyond 256 are no bfloat16
    shown = allowed_keys(q, k, mask, causal)
    seen = torch.ones(k.shape[-2], dtype=torch.bool, device=q.device)  # or (B, H, Nq, Nk)
    seen = seen if shown is None else seen & shown
    place, length = seen.cumsum(-1) - 1, seen.sum(-1)
    centres = length * torch.sigmoid(torch.tanh(q @ w_place.mT) @ v_place)  # (B, H, Nq)
    away = place - centres[..., None]  # (B, H, Nq, Nk)
    allowed = (away.abs() <= window) & seen
    weights = masked_softmax(q @ k.mT * (1.0 if scale is None else scale), allowed)
    return (weights * torch.exp(-(away**2) / (2 * (window / 2) ** 2)) @ v).to(dtype)


def gathered(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    w_place: torch.Tensor,
    v_place: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The keys about each query's place are gathered and nothing else is read: linear in N.

    A block of queries at a time, gathered again in the backward.
    """
    k, v, mask = with_a_key(k, v, mask)
    (batch, heads, q_len, dim), k_len, dtype = q.shape, k.shape[2], q.dtype
    q, k, v, w_place, v_place = wide(q, k, v, w_place, v_place)
    width = min(2 * window + 1, k_len)
    keys = None if mask is None else mask.expand(batch, heads, 1, k_len)[:, :, 0]
    length = _lengths(q, k, keys, causal)  # broadcasts to (B, H, Nq)
    centres = length * torch.sigmoid(torch.tanh(q @ w_place.mT) @ v_place)
    # Whole windows within the sequence: the places outside of |j − p| ≤ window are hidden below.
    first = (centres.detach() - window).ceil().clamp(0, k_len - width).long()  # (B, H, Nq)
    head = torch.arange(batch * heads, device=q.device).view(batch, heads, 1) * k_len
    # Where the n-th key that the mask shows lies among those of all heads, (B·H·Nk,).
    shown = None if keys is None else head + torch.argsort((~keys).byte(), stable=True)
    rows_k, rows_v = (x.reshape(batch * heads * k_len, x.shape[-1]) for x in (k, v))

    def attend(rows: slice) -> torch.Tensor:
        place = first[:, :, rows, None] + torch.arange(width, device=q.device)
        index = head[..., None] + place  # (B, H, r, width)
        if shown is not None:
            index = shown.flatten()[index]
        away = place - centres[:, :, rows, None]
        allowed = (away.abs() <= window) & (place < length.expand(centres.shape)[:, :, rows, None])
        scores = (F.embedding(index, rows_k) @ q[:, :, rows, :, None]).squeeze(-1)
        weights = masked_softmax(scores * (1.0 if scale is None else scale), allowed)
        weights = weights * torch.exp(-2 * (away / window) ** 2)
        return (weights[..., None, :] @ F.embedding(index, rows_v)).squeeze(-2).to(dtype)

    size = max(1, BLOCK_ELEMENTS // max(1, batch * heads * width * dim))
    blocks = [slice(i, min(i + size, q_len)) for i in range(0, q_len, size)]
    if len(blocks) <= 1:
        return attend(slice(0, q_len))
    outputs = (
        checkpoint(attend, rows, use_reentrant=False, preserve_rng_state=False) for rows in blocks
    )
    return torch.cat(list(outputs), 2)


def _lengths(
    q: torch.Tensor, k: torch.Tensor, keys: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """How many keys each query sees, of those that ``keys`` (B, H, Nk) shows."""
    q_len, k_len = q.shape[-2], k.shape[-2]
    if keys is None:
        last = torch.arange(k_len - q_len, k_len, device=q.device) if causal else k_len - 1
        return (torch.as_tensor(last, device=q.device) + 1).clamp(min=0)
    if not causal:
        return keys.sum(-1, keepdim=True)
    return F.pad(keys.cumsum(-1), (q_len - k_len, 0))  # cut where there are fewer queries


def parameters(
    shape: Shape, generator: torch.Generator | None, *, window: int
) -> Mapping[str, torch.Tensor]:
    """Normal with variance 1/D, shared by the heads."""
    dim = shape.head_dim

    def normal(*size: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*size, generator=generator) / math.sqrt(dim))

    return {"w_place": normal(dim, dim), "v_place": normal(dim)}


def supports(case: Case) -> str | None:
    """σ is half the window, and nothing may be divided by zero."""
    window = case.options["window"]
    return None if window >= 1 else f"the window must be at least 1, and it is {window}"


def flops(case: Case) -> float:
    """The predicted place, and the two products over the pairs, all of them or of a window."""
    shape = case.attention_shape
    rows = 2.0 * shape.batch * shape.heads * shape.q_len
    return pair_flops(case) + rows * shape.head_dim * (shape.head_dim + 1)


def gathered_flops(case: Case) -> float:
    """Likewise over the keys of a window."""
    shape = case.attention_shape
    rows = 2.0 * shape.batch * shape.heads * shape.q_len
    keys = min(shape.k_len, 2 * int(case.options["window"]) + 1)
    place = shape.head_dim * (shape.head_dim + 1)
    return rows * (keys * (shape.head_dim + shape.value_dim) + place)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Local attention around a predicted place."""
    yield Attention(
        "local_predictive",
        forwards={
            "reference": Forward(
                reference, supports=supports, complexity="N^2", memory="N^2", flops=flops
            ),
            "gathered": Forward(
                gathered,
                supports=supports,
                masks="keys",
                complexity="N",
                memory="N",
                flops=gathered_flops,
            ),
        },
        options={"window": 10},
        parameters=parameters,
        identities=(
            Identity(
                "window = infinity",
                options=lambda shape: {"window": 10**9},
                equals="dot_product",
                unless=lambda shape: {"window": 5},
            ),
        ),
        metadata=Metadata(
            title="Predictive local attention (local-p)",
            summary="Each query predicts a place and attends to a Gaussian window around it.",
            formula=r"o_i = \sum_{|j - p_i| \le w} \operatorname{softmax}_j(q_i \cdot k_j)\, "
            r"e^{-2 (j - p_i)^2 / w^2}\, v_j,\quad p_i = S\, \sigma(v_p^\top \tanh(W_p q_i))",
            strengths=(
                "a fixed cost for each query, however long the source",
                "the place is learned by gradient: the window is smooth",
            ),
            weaknesses=(
                "one place for each query",
                "keys are gathered, which caches and matrix units like less than blocks",
            ),
            use_when="Translation and speech, where outputs follow inputs roughly in order.",
            tags=(
                "dot_product",
                "location",
                "soft",
                "learnable",
                "self",
                "cross",
                "local",
                "dynamic",
                "efficient",
                "translation",
            ),
            section="scope",
            paper=Paper(
                title="Effective Approaches to Attention-based Neural Machine Translation",
                authors=("Minh-Thang Luong", "Hieu Pham", "Christopher D. Manning"),
                year=2015,
                url="https://arxiv.org/abs/1508.04025",
            ),
            properties={"row_stochastic": False, "stochastic": False, "differentiable": True},
        ),
    )
