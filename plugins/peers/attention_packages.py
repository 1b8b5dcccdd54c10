"""Attention of local-attention, x-transformers and performer-pytorch."""

from __future__ import annotations

import math
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
    """local-attention's layer with exact windows and no rotation."""
    output: torch.Tensor = _windows(window, causal, scale)(q, k, v)
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
        use_rotary_pos_emb=False,
        scale=scale,
    )


def _local_refuses(case: Case) -> str | None:
    shape, window = case.attention_shape, int(case.options["window"])
    if window < 1 or shape.q_len != shape.k_len or shape.q_len % window:
        return "it needs as many queries as keys, and a whole number of windows of them"
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
    """performer-pytorch's kernel and linear attention, without the constant that it adds."""
    if scale is not None:  # the kernel itself divides both by the fourth root of D
        q, k = (x * math.sqrt(scale * math.sqrt(q.shape[-1])) for x in (q, k))
    kernel = found(PERFORMER, "softmax_kernel")
    query, key = (
        kernel(x, projection_matrix=projection, is_query=is_query, eps=0.0)
        for x, is_query in ((q, True), (k, False))
    )
    output: torch.Tensor = found(PERFORMER, "linear_attention")(query, key, v)
    return output


def _favor_refuses(case: Case) -> str | None:
    if case.causal:
        return "its causal form without a GPU kernel adds constants to the features"
    return refuses(PERFORMER, "softmax_kernel")(case)


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
                "reference": ours.forward("reference"),
                "performer_pytorch": Forward(favor, supports=_favor_refuses, masks="none"),
            },
            recurrence=None,
            metadata=attention_metadata("performer-pytorch", "FAVOR+", ours.metadata.formula),
        )
