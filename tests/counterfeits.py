"""For each claim of the textbook a variant that breaks it: the claim must then not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from bakeoff import (
    Activation,
    Attention,
    Connection,
    Metadata,
    allowed_keys,
    masked_softmax,
)

__all__ = ["COUNTERFEITS", "activation", "attention", "connection", "metadata"]


def metadata(**properties: Any) -> Metadata:
    """The least that a variant must say of itself."""
    return Metadata(
        title="Counterfeit",
        summary="It breaks a claim.",
        formula="none",
        strengths="none",
        weaknesses="none",
        use_when="Never.",
        tags="hidden_layer",
        properties=properties,
    )


def activation(fn: Callable[..., Any], **fields: Any) -> Activation:
    """A counterfeit activation, x -> fn(x)."""
    return Activation("counterfeit", forwards={"reference": fn}, metadata=metadata(), **fields)


def attention(fn: Callable[..., Any], **fields: Any) -> Attention:
    """A counterfeit attention, with the arguments of a forward."""
    return Attention("counterfeit", forwards={"reference": fn}, metadata=metadata(), **fields)


def connection(fn: Callable[..., Any], **fields: Any) -> Connection:
    """A counterfeit connection, (x, branch) -> fn(x, branch)."""
    return Connection("counterfeit", forwards={"reference": fn}, metadata=metadata(), **fields)


def _scaled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q kᵀ / √D) v."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


def _ignoring(option: str) -> Callable[..., torch.Tensor]:
    """The same, with an option that changes nothing."""

    def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> torch.Tensor:
        del more[option]
        return _scaled(q, k, v, **more)

    return forward


def _window_alone(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int,
    global_tokens: int,
    **more: Any,
) -> torch.Tensor:
    place = torch.arange(q.shape[2], device=q.device)
    return _scaled(q, k, v, **{**more, "mask": (place[:, None] - place).abs() <= window})


def _falling(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, features: int, **more: Any
) -> torch.Tensor:
    shown = torch.arange(k.shape[2], device=k.device) >= features
    return _scaled(q, k, v, **{**more, "mask": shown})


def _peeking(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> torch.Tensor:
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    seen = seen.tril(1) if more["causal"] else seen
    return _scaled(q, k, v, **{**more, "mask": seen, "causal": False})


#: Claim to role to the counterfeit in that role, or the name of a registered variant that can't
#: play it.
COUNTERFEITS: Mapping[str, Mapping[str, Activation | Attention | Connection | str]] = {
    # Nearly linear, and yet not.
    "linear_stack": {"linear": activation(lambda x: x + 0.1 * x.tanh())},
    # A sigmoid that does not saturate.
    "vanishing_gradient": {"sigmoid": activation(lambda x: 0.5 + x)},
    # A sigmoid without an exponential, as a rectifier is computed.
    "exponentials_cost": {"sigmoid": "relu", "rectifier": "sigmoid", "tanh": "relu"},
    # Weights that are scaled to a length of 1, not to a sum of 1.
    "softmax_is_a_distribution": {
        "softmax": activation(lambda x: torch.nn.functional.normalize(x.softmax(-1), dim=-1))
    },
    # A skip that halves.
    "gradient_through_skips": {"skip": connection(lambda x, branch: 0.5 * x + branch(x))},
    # Scaled under another name.
    "unscaled_softmax_saturates": {"unscaled": attention(_scaled)},
    # A window that is named and not kept.
    "local_attention": {"local": attention(_ignoring("window"), options={"window": 128})},
    # Soft, and deterministic.
    "hard_attention": {"hard": attention(_scaled)},
    # Neither sparse nor global: every token sees its window.
    "sparse_attention": {
        "sparse": attention(_window_alone, options={"window": 128, "global_tokens": 1})
    },
    # Keys are left out, the more the higher the rank.
    "low_rank_attention": {"kernel": attention(_falling, options={"features": 256})},
    # Dense, with points that do nothing.
    "deformable_attention": {"sampled": attention(_ignoring("points"), options={"points": 4})},
    # A causal one that sees one place of the future.
    "one_side_or_both": {"causal": attention(_peeking)},
    # As exact as dense attention, and as dear.
    "hierarchical_attention": {
        "hierarchical": attention(_ignoring("block_size"), options={"block_size": 16})
    },
    # Each place attends to itself alone: nothing is mixed, and no rank is lost.
    "rank_collapse": {"attention": attention(lambda q, k, v, **_: v)},
}
