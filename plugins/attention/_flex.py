"""torch's FlexAttention under the conventions of the registry."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from bakeoff import Case

__all__ = ["flex_attention", "flex_refuses", "modified_attention"]

#: Triton's products of matrices need at least so many features.
LEAST_DIM = 16


def flex_refuses(case: Case) -> str | None:
    """None where FlexAttention can run the case, else the reason."""
    shape = case.attention_shape
    if not case.device.startswith("cuda"):
        return "on the CPU FlexAttention has no backward and compiles for half a minute"
    if case.dtype == "float64":
        return "FlexAttention has no float64 on a GPU"
    if min(shape.head_dim, shape.value_dim) < LEAST_DIM:
        return f"FlexAttention needs heads of at least {LEAST_DIM} features"
    return None


def flex_attention(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """softmax(q kᵀ · scale) v; blocks in which nothing may be attended to are left out."""
    visible: Callable[..., Any] | None = None
    sizes: tuple[int | None, int | None] = (None, None)
    if causal or mask is not None:
        (batch, heads, q_len, _), k_len = q.shape, k.shape[2]
        whole = None if mask is None else mask.expand(batch, heads, q_len, k_len)
        sizes = sizes if whole is None else (batch, heads)
        visible = _visible(whole, causal, k_len - q_len)
    # Uncompiled it would make all N² numbers.
    return modified_attention(q, k, v, scale, compiled=True, mask_mod=visible, sizes=sizes)


def modified_attention(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    scale: float | None,
    *,
    compiled: bool,
    score_mod: Callable[..., Any] | None = None,
    mask_mod: Callable[..., Any] | None = None,
    sizes: tuple[int | None, int | None] = (None, None),
) -> torch.Tensor:
    """FlexAttention with a mod of its own or of others; uncompiled it makes all N² scores.

    Which blocks hold something to see is found out in every call, as for any other forward.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        scale: In place of 1 / √D.
        compiled: Whether both functions are.
        score_mod: What becomes of a score, (score, b, h, i, j).
        mask_mod: Whether row i of the queries may attend to row j of the keys, (b, h, i, j).
        sizes: Of what the mask differs in: B and H, or None where it is the same for all.
    """
    attention, block_mask = _functions(compiled)
    blocks = None
    if mask_mod is not None:
        blocks = block_mask(mask_mod, *sizes, q.shape[2], k.shape[2], device=q.device)
    output: torch.Tensor = attention(q, k, v, score_mod=score_mod, block_mask=blocks, scale=scale)
    return output


def _visible(mask: torch.Tensor | None, causal: bool, offset: int) -> Callable[..., Any]:
    """Whether query i of a head may attend to key j, as FlexAttention asks it."""

    def lower(b: Any, h: Any, i: Any, j: Any) -> Any:
        return j <= i + offset

    def given(b: Any, h: Any, i: Any, j: Any) -> Any:
        assert mask is not None
        return mask[b, h, i, j]

    def both(b: Any, h: Any, i: Any, j: Any) -> Any:
        return lower(b, h, i, j) & given(b, h, i, j)

    if mask is None:
        return lower
    return both if causal else given


@functools.cache
def _functions(compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """FlexAttention and what makes its masks, imported, and compiled, at the first call."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if not compiled:
        return functools.partial(_quietly, flex_attention), create_block_mask
    return torch.compile(flex_attention), torch.compile(create_block_mask)


def _quietly(attention: Callable[..., Any], *tensors: torch.Tensor, **given: Any) -> Any:
    """Without torch's warning that nothing is compiled, which it does not give where it is."""
    if torch.compiler.is_compiling():  # filters of warnings can't be traced
        return attention(*tensors, **given)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        return attention(*tensors, **given)
