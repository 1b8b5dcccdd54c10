"""A plugin of variants whose true ratios are known: the same work once, and 3% and 10% more."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from bakeoff import Activation, Attention, Metadata, hookimpl, masked_softmax

METADATA = Metadata(
    title="Planted",
    summary="Its ratio to its baseline is known.",
    formula="y",
    strengths=("known",),
    weaknesses=("useless",),
    use_when="To prove the races.",
    tags=("hidden_layer",),
)


def _repeated(times: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def reference(x: torch.Tensor) -> torch.Tensor:
        for _ in range(times):
            y = F.gelu(x)
        return y

    return reference


def _relu_again(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


def _fused_again(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


def _naive_again(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return masked_softmax(scores, mask) @ v


@hookimpl
def bakeoff_variants() -> Iterator[Activation | Attention]:
    """Copies of baselines, and slower ones."""
    for times in (100, 103, 110):
        yield Activation(
            f"planted_{times}", forwards={"reference": _repeated(times)}, metadata=METADATA
        )
    yield Activation("planted_twin", forwards={"reference": _repeated(100)}, metadata=METADATA)
    yield Activation("relu_again", forwards={"reference": _relu_again}, metadata=METADATA)
    yield Attention("fused_again", forwards={"reference": _fused_again}, metadata=METADATA)
    yield Attention("naive_again", forwards={"reference": _naive_again}, metadata=METADATA)
