"""Attention of local-attention, x-transformers and performer-pytorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from bakeoff import Attention, Case, Forward, hookimpl
from bakeoff.plugins.attention import performer
from bakeoff.plugins.attention.scaled_dot_product import reference as dense
from bakeoff.plugins.attention.sliding_window import reference as window_reference
from bakeoff.plugins.peers._peers import (
    attention_metadata,
    found,
    is_installed,
    refuses,
    remembered,
)

PERFORMER = "performer_pytorch.performer_pytorch"


def local(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """local-attention's layer with exact windows and no rotation.

    It pads to whole windows, with keys that only a mask keeps from being seen.
    """
    keys = None
    if q.shape[2] % window:
        keys = q.new_ones(q.shape[0], q.shape[2], dtype=torch.bool)
    output: torch.Tensor = _windows(window, causal, scale)(q, k, v, mask=keys)
    return output


@remembered
def _windows(window: int, causal: bool, scale: float | None) -> Any:
    """The layer; it holds no tensors."""
    return found("local_attention", "LocalAttention")(
        window_size=window,
        causal=causal,
        look_backward=1,
        look_forward=0 if causal else 1,
        exact_windowsize=True,
        autopad=True,
        use_rotary_pos_emb=False,
        scale=scale,
    )


def _local_refuses(case: Case) -> str | None:
    if int(case.options["window"]) < 1:
        return "its windows hold at least one position"
    if case.attention_shape.q_len != case.attention_shape.k_len:
        return "it needs as many queries as keys"
    return refuses("local_attention", "LocalAttention")(case)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """x-transformers' Attend, without its flash path."""
    output: torch.Tensor = _attend(causal, scale)(q, k, v)[0]
    return output


@remembered
def _attend(causal: bool, scale: float | None) -> Any:
    """The layer; it holds no tensors."""
    return found("x_transformers.attend", "Attend")(causal=causal, scale=scale)


def favor_reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    projection: torch.Tensor,  # (M, D)
    features: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """φ(q) (φ(k)ᵀ v) / φ(q) Σ φ(k), with φ(x)_f = exp(ω_fᵀ x − |x|²/2 − c) + ε.

    Equation 4 of Choromanski et al., 2021, with the numbers of the authors' code: ε = 10⁻⁴, and c,
    without a gradient, the largest ω_fᵀ x of a query, or of all keys. Because of ε the factors
    that they make do not cancel.
    """

    def kernel(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
        x = x * performer.root_of(q, scale)
        products = x @ projection.T
        largest = products.detach().amax(dims, keepdim=True)
        return (products - x.square().sum(-1, keepdim=True) / 2 - largest).exp() + 1e-4

    query, key = kernel(q, (-1,)), kernel(k, (-2, -1))  # (B, H, N, M)
    return query @ (key.mT @ v) / (query @ key.sum(-2)[..., None])


def favor(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    projection: torch.Tensor,
    features: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """performer-pytorch's kernel and linear attention."""
    kernel = found(PERFORMER, "softmax_kernel")
    query, key = (
        kernel(
            x * performer.root_of(q, scale),
            projection_matrix=projection,
            is_query=is_query,
            normalize_data=False,  # its own scale is that of 1 / √D alone
        )
        for x, is_query in ((q, True), (k, False))
    )
    output: torch.Tensor = found(PERFORMER, "linear_attention")(query, key, v)
    return output


def _attend_refuses(case: Case) -> str | None:
    """Its masks leave a query without keys the mean of all values, so none is passed on."""
    if case.dtype == "float64":
        return "its softmax is one of float32"
    shape = case.attention_shape
    if case.causal and shape.q_len > shape.k_len:
        return "its causal form needs at least as many keys as queries"
    return refuses("x_transformers.attend", "Attend")(case)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Those of the packages that are installed."""
    if is_installed("local_attention"):
        yield Attention(
            "local_attention_windows",
            forwards={
                "reference": window_reference,
                "local_attention": Forward(local, supports=_local_refuses, masks="none"),
            },
            options={"window": 16},
            metadata=attention_metadata(
                "local-attention",
                "Exact windows",
                r"o_i = \sum_{|i-j| \le w} "
                r"\operatorname{softmax}_j(q_i \cdot k_j / \sqrt{D})\, v_j",
            ),
        )
    if is_installed("x_transformers"):
        yield Attention(
            "x_transformers_attend",
            forwards={
                "reference": dense,
                "x_transformers": Forward(attend, supports=_attend_refuses, masks="none"),
            },
            metadata=attention_metadata(
                "x-transformers",
                "Dense attention",
                r"o_i = \sum_j \operatorname{softmax}_j(q_i \cdot k_j / \sqrt{D})\, v_j",
            ),
        )
    if is_installed("performer_pytorch"):
        ours = next(iter(performer.bakeoff_variants()))
        yield replace(
            ours,
            name="performer_pytorch_favor",
            forwards={
                "reference": Forward(favor_reference, masks="none"),
                "performer_pytorch": Forward(
                    favor, supports=refuses(PERFORMER, "softmax_kernel"), masks="none"
                ),
            },
            recurrence=None,
            metadata=attention_metadata(
                "performer-pytorch",
                "FAVOR+",
                r"o_i = \frac{\phi(q_i)^\top \sum_j \phi(k_j) v_j^\top}"
                r"{\phi(q_i)^\top \sum_j \phi(k_j)},\quad "
                r"\phi(x)_f = e^{\omega_f^\top x - |x|^2 / 2 - c} + \varepsilon",
                unused=("causal",),
                properties={
                    "patterns": ("self", "cross"),
                    "row_stochastic": True,
                    "differentiable": False,  # c has no gradient, and does not cancel
                },
            ),
        )
