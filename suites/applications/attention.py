"""What stands in an attention layer of transformers: a variant, or what was there before."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import nn

from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.masking import allowed_keys
from bakeoff.registry.module import VariantModule

__all__ = ["ATTACHED", "IMPLEMENTATION", "AttentionSite", "register"]

#: The name of our attention function among those of transformers.
IMPLEMENTATION = "bakeoff"
#: The name of the submodule that an attention layer gets.
ATTACHED = "bakeoff"
#: What a call may bring beside queries, keys, values and a mask, and a variant has no place for.
_LOST = ("position_bias", "softcap", "s_aux", "head_mask", "cu_seq_lens_q", "cu_seq_lens_k")
#: A mask in floats is this far below zero where a query may not attend.
_FORBIDDEN = -1e4


class AttentionSite(nn.Module):
    """A submodule of an attention layer: its parameters are the model's own.

    Args:
        original: The name of the attention implementation that the model had.
        layer: The place of the layer among the model's attentions, from 0.
        depth: How many the model has.
    """

    def __init__(self, original: str, layer: int, depth: int) -> None:
        super().__init__()
        self.original, self.layer, self.depth = original, layer, depth
        self.variant: VariantModule | None = None

    def forward(
        self,
        owner: nn.Module,
        q: torch.Tensor,  # (B, H, Nq, D)
        k: torch.Tensor,  # (B, Hkv, Nk, D)
        v: torch.Tensor,  # (B, Hkv, Nk, Dv)
        mask: torch.Tensor | None,
        causal: bool,
        scale: float | None,
        rest: dict[str, Any],
    ) -> torch.Tensor:  # (B, Nq, H, Dv)
        """The variant, or the original function where there is none."""
        if self.variant is None:
            return self._original(owner, q, k, v, mask, causal, scale, rest)
        _require_nothing_lost(self.variant.variant.name, rest)
        if k.shape[1] != q.shape[1] and not getattr(self.variant.variant, "grouped", False):
            share = q.shape[1] // k.shape[1]
            k, v = (x.repeat_interleave(share, dim=1) for x in (k, v))
        if scale is not None and math.isclose(scale, q.shape[-1] ** -0.5):
            scale = None  # the usual one of softmax: a variant may have a usual one of its own
        output: torch.Tensor = self.variant(
            q, k, v, mask=mask, causal=causal, scale=scale, layer=self.layer, depth=self.depth
        )
        return output.transpose(1, 2).contiguous()

    def _original(
        self,
        owner: nn.Module,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
        causal: bool,
        scale: float | None,
        rest: dict[str, Any],
    ) -> torch.Tensor:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        allowed = allowed_keys(q, k, mask, causal)
        given: torch.Tensor | None = None
        if allowed is not None:
            heads = allowed.shape[1] if allowed.dim() == 4 else 1
            given = allowed.expand(q.shape[0], heads, q.shape[2], k.shape[2])
            if self.original == "eager":
                least = torch.finfo(q.dtype).min
                given = torch.zeros_like(given, dtype=q.dtype).masked_fill(~given, least)
        eager = getattr(sys.modules[type(owner).__module__], "eager_attention_forward", None)
        fn = ALL_ATTENTION_FUNCTIONS.get_interface(self.original, eager)
        output: torch.Tensor = fn(owner, q, k, v, given, scaling=scale, is_causal=False, **rest)[0]
        return output


def register() -> None:
    """Make our attention known to transformers, with the masks that it wants."""
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, _attend)
    # Without one of its own an implementation gets no mask at all, and attends to padding.
    AttentionMaskInterface.register(IMPLEMENTATION, _mask)


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Called by every attention layer of a model that was swapped."""
    site = getattr(module, ATTACHED, None)
    if not isinstance(site, AttentionSite):
        raise UnsupportedError(
            f"{type(module).__name__}: this layer was added after the swap; call bakeoff.restore "
            "and bakeoff.swap again"
        )
    mask = None if attention_mask is None else _as_bool(attention_mask, key.shape[2])
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    # A mask for each query holds causality already, as with packed or sliding sequences.
    causal = bool(causal) and (mask is None or mask.shape[-2] == 1)
    return site(module, query, key, value, mask, causal, scaling, rest), None


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = None,
    attention_mask: torch.Tensor | None = None,
    **rest: Any,
) -> torch.Tensor | None:
    """Padding alone, (B, 1, 1, Nk): causality is told apart, as to flash attention.

    So an attention in linear time, which can leave out keys but knows no mask of pairs, runs too.
    What is neither causal nor bidirectional is made into a mask of pairs, (B, 1, Nq, Nk).
    """
    from transformers.masking_utils import (
        bidirectional_mask_function,
        causal_mask_function,
        prepare_padding_mask,
        sdpa_mask,
    )

    plain = mask_function in (causal_mask_function, bidirectional_mask_function)
    if mask_function is causal_mask_function and q_offset + q_length != kv_offset + kv_length:
        raise UnsupportedError(
            f"a cache of {kv_length} places of which {int(q_offset) + q_length} are filled: "
            "variants take the last key as the present; use a cache that grows (DynamicCache)"
        )
    if plain:
        padding: torch.Tensor | None = prepare_padding_mask(attention_mask, kv_length, kv_offset)
        if padding is None:
            return None
        return padding[:, None, None, kv_offset : kv_offset + kv_length].bool()
    skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    whole: torch.Tensor | None = sdpa_mask(
        batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask,
        **{**rest, **skips},
    )  # fmt: skip
    return whole


def _as_bool(mask: torch.Tensor, k_len: int) -> torch.Tensor:
    """A mask of a user's own may be of numbers to add; then zero means that a query may attend."""
    if mask.dim() != 4 or mask.shape[-1] != k_len:
        raise UnsupportedError(
            f"a mask of shape {tuple(mask.shape)}, expected (batch, 1 or heads, 1 or queries, "
            f"{k_len})"
        )
    if mask.dtype == torch.bool:
        return mask
    if not bool(((mask == 0) | (mask <= _FORBIDDEN)).all()):
        raise UnsupportedError(
            "a mask that adds a bias to the scores, which a variant has no place for; expected "
            "zero or a very low number everywhere"
        )
    return mask == 0


def _require_nothing_lost(name: str, rest: dict[str, Any]) -> None:
    for argument in _LOST:
        if rest.get(argument) is not None:
            raise UnsupportedError(
                f"{name}: this model gives its attention {argument}, which the variant has no "
                "place for; swap other layers only (where=…)"
            )
    if rest.get("dropout"):
        raise UnsupportedError(
            f"{name}: this model drops attention weights with probability {rest['dropout']}, which "
            "the variant has no place for; set its attention dropout to 0 in the configuration"
        )
    if rest.get("output_attentions"):
        raise UnsupportedError(f"{name}: output_attentions: a variant returns no weights")
