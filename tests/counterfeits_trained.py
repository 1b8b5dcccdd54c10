"""The counterfeits of the claims that need training, as those of ``counterfeits.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from counterfeits import activation, attention, connection

from bakeoff import Activation, Attention, Connection, Shape

__all__ = ["COUNTERFEITS", "REFUTED", "SLOW"]

Tensor = torch.Tensor


def one_for_all(q: Tensor, k: Tensor, v: Tensor, *, mask=None, causal=False, scale=None) -> Tensor:
    """Every head attends to what the mean of all heads attends to."""
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).mean(1, keepdim=True)
    return scores.softmax(-1) @ v


def forgetful(
    q: Tensor, k: Tensor, v: Tensor, *, memory_keys, memory_values, mask=None, causal=False,
    scale=None,
) -> Tensor:  # fmt: skip
    """It takes a memory and does not look into it."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def memories(shape: Shape, generator: torch.Generator | None) -> Mapping[str, Tensor]:
    """Those of the memory network."""
    size = (shape.batch, shape.heads, 4)
    return {
        "memory_keys": torch.randn(*size, shape.head_dim, generator=generator),
        "memory_values": torch.randn(*size, shape.value_dim, generator=generator),
    }


def the_mean(q: Tensor, k: Tensor, v: Tensor, *, mask=None, causal=False, scale=None) -> Tensor:
    """It looks nowhere."""
    return v.mean(2, keepdim=True).expand(*q.shape[:3], v.shape[-1])


def no_hybrid(
    q: Tensor, k: Tensor, v: Tensor, *, kernel: int, mask=None, causal=False, scale=None
) -> Tensor:
    """Dense attention; the hybrid is what it is compared with."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def fixed_slope(features: int, generator: torch.Generator | None) -> Mapping[str, Tensor]:
    """A slope that is no parameter."""
    return {"slope": torch.full((features,), 0.25)}


COUNTERFEITS: Mapping[str, Mapping[str, Activation | Attention | Connection | str]] = {
    "not_zero_centred": {"positive": "tanh"},
    "relu_dies": {"rectifier": "leaky_relu"},
    "prelu_learns": {
        "learned": activation(
            lambda x, *, slope: torch.where(x > 0, x, slope * x), parameters=fixed_slope
        )
    },
    "swish": {"swish": "relu"},
    "degradation": {"residual": "plain"},
    "identity_block": {"residual": connection(lambda x, branch: x / 2 + branch(x))},
    "several_heads": {"attention": attention(one_for_all)},
    "additive_or_product": {"product": attention(the_mean)},
    "external_memory": {"memory": attention(forgetful, inputs=memories)},
    "hybrid_local": {
        "hybrid": attention(no_hybrid, options={"kernel": 31}),
        "attention": "conv_hybrid",
    },
    "relu_converges_faster": {"rectifier": "sigmoid"},
    "output_layer": {"probabilities": activation(lambda x: 0.25 + 0.5 * torch.sigmoid(x))},
}
#: Claims that take more than some seconds.
SLOW: frozenset[str] = frozenset(COUNTERFEITS) - {"relu_dies", "prelu_learns"}
#: Statements that do not come out, each with the criteria that refute it; docs/decisions.md has
#: the reasons.
REFUTED: Mapping[str, set[str]] = {
    "additive_or_product": {"product_minus_additive_large"},
    "relu_converges_faster": {"steps_ratio_tanh"},
}
