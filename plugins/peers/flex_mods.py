"""torch's FlexAttention with the mods of attention-gym: compiled on a GPU, uncompiled anywhere.

Uncompiled it has no backward on the CPU. Left out is NATTEN, whose mask takes rows for columns: it
is right on square maps alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch

from bakeoff import Attention, Case, Forward, hookimpl
from bakeoff.plugins.attention import alibi, dilated_window, sliding_window
from bakeoff.plugins.attention._flex import flex_refuses, modified_attention
from bakeoff.plugins.attention.softcap import reference as softcap_reference
from bakeoff.plugins.peers._peers import (
    Function,
    attention_metadata,
    found,
    is_installed,
    refuses,
    remembered,
)

PACKAGE = "attn_gym"
MODS, MASKS = f"{PACKAGE}.mods", f"{PACKAGE}.masks"


@remembered
def _made(module: str, name: str, *arguments: Any) -> Any:
    """A mod; always the same one, since whatever has seen it compiles again for another."""
    return found(module, name)(*arguments)


@remembered
def _causally(mask_mod: Any) -> Any:
    """The mask, and causal besides."""
    from torch.nn.attention.flex_attention import and_masks

    return and_masks(mask_mod, found(MASKS, "causal_mask"))


def past_alibi(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q kᵀ / √D − m_h (i − j)) v over j ≤ i, with m_h = 2^(−8h/H), h = 1 … H."""
    heads = q.shape[1]
    log_slopes = -8 / heads * torch.arange(1, heads + 1, device=q.device)
    return alibi.reference(q, k, v, log_slopes=log_slopes, mask=mask, causal=True, scale=scale)


def flex_alibi(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
    compiled: bool,
) -> torch.Tensor:
    """The bias of attention-gym, which is one for the past."""
    bias, seen = _made(MODS, "generate_alibi_bias", q.shape[1]), found(MASKS, "causal_mask")
    return modified_attention(q, k, v, scale, compiled=compiled, score_mod=bias, mask_mod=seen)


def flex_softcap(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cap: float,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    compiled: bool,
) -> torch.Tensor:
    """The cap of attention-gym, with an exact tanh."""
    capped = _made(MODS, "generate_tanh_softcap", cap)
    seen = found(MASKS, "causal_mask") if causal else None
    return modified_attention(q, k, v, scale, compiled=compiled, score_mod=capped, mask_mod=seen)


def past_window(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to 0 ≤ i − j ≤ window."""
    return sliding_window.reference(q, k, v, window=window, mask=mask, causal=True, scale=scale)


def flex_window(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
    compiled: bool,
) -> torch.Tensor:
    """The window of attention-gym, which is causal by itself."""
    seen = _made(MASKS, "generate_sliding_window", window)
    return modified_attention(q, k, v, scale, compiled=compiled, mask_mod=seen)


def with_dilation(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    dilation: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention, masked to |i − j| = 0, d, 2d, … ≤ window: here it counts places."""
    return dilated_window.reference(
        q,
        k,
        v,
        window=window // dilation,
        dilation=dilation,
        mask=mask,
        causal=causal,
        scale=scale,
    )


def flex_dilated(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    dilation: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    compiled: bool,
) -> torch.Tensor:
    """The dilated window of attention-gym."""
    near = _made(MASKS, "generate_dilated_sliding_window", window, dilation)
    return modified_attention(
        q, k, v, scale, compiled=compiled, mask_mod=_causally(near) if causal else near
    )


def _refuses(case: Case, *, made_by: tuple[str, str], compiled: bool) -> str | None:
    """None where the mod can be used, else the reason."""
    shape = case.attention_shape
    if shape.q_len != shape.k_len:
        return "it counts from the first query and the first key: it needs as many of both"
    if compiled:
        reason = flex_refuses(case)
    else:
        reason = None if case.mode == "eager" else "it is the one that is not compiled"
    return reason or refuses(*made_by)(case)


def _variant(
    name: str,
    title: str,
    formula: str,
    reference: Function,
    flex: Function,
    made_by: tuple[str, str],
    options: Mapping[str, Any],
    past_only: bool = False,
) -> Attention:
    def forward(compiled: bool) -> Forward:
        return Forward(
            partial(flex, compiled=compiled),
            supports=partial(_refuses, made_by=made_by, compiled=compiled),
            masks="none",
            backward=compiled,
        )

    return Attention(
        f"{PACKAGE}_{name}",
        forwards={
            "reference": reference,
            PACKAGE: forward(compiled=True),
            "uncompiled": forward(compiled=False),
        },
        options=options,
        metadata=attention_metadata(
            "attention-gym",
            title,
            rf"o_i = \sum_j {formula}\, v_j",
            properties={"row_stochastic": True}
            | ({"patterns": ("causal_self",)} if past_only else {}),
            unused=("causal",) if past_only else (),
        ),
    )


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Those of attention-gym, where it is installed."""
    if not is_installed(PACKAGE):
        return
    yield _variant(
        "alibi",
        "Linear biases",
        r"\operatorname{softmax}_{j \le i}(q_i \cdot k_j / \sqrt{D} - m_h (i - j))",
        past_alibi,
        flex_alibi,
        (MODS, "generate_alibi_bias"),
        {},
        past_only=True,
    )
    yield _variant(
        "softcap",
        "Capped scores",
        r"\operatorname{softmax}_j(c \tanh(q_i \cdot k_j / (c \sqrt{D})))",
        softcap_reference,
        flex_softcap,
        (MODS, "generate_tanh_softcap"),
        {"cap": 50.0},
    )
    yield _variant(
        "sliding_window",
        "Window over the past",
        r"\operatorname{softmax}_{0 \le i - j \le w}(q_i \cdot k_j / \sqrt{D})",
        past_window,
        flex_window,
        (MASKS, "generate_sliding_window"),
        {"window": 128},
        past_only=True,
    )
    yield _variant(
        "dilated_sliding_window",
        "Dilated window",
        r"\operatorname{softmax}_{|i-j| \le w,\, d \mid i-j}(q_i \cdot k_j / \sqrt{D})",
        with_dilation,
        flex_dilated,
        (MASKS, "generate_dilated_sliding_window"),
        {"window": 128, "dilation": 2},
    )
