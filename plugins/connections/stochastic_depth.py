"""Stochastic depth (Huang et al., 2016, section 3, equations 2, 4 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(
    x: torch.Tensor,
    branch: Branch,
    *,
    draw: torch.Tensor | None,  # (1,), uniform in [0, 1); None when evaluating
    survival: float,
    layer: int = 0,
    depth: int = 1,
) -> torch.Tensor:
    """x + b F(x) with b = 1 of probability p, one for a whole batch, and x + p F(x) in its mean.

    p falls linearly from the input, where it is 1, to ``survival`` at the last layer.
    """
    probability = 1 - (layer + 1) / depth * (1 - survival)
    if draw is None:
        return x + probability * branch(x)
    return x + (draw < probability).to(x.dtype) * branch(x)


def fused(
    x: torch.Tensor,
    branch: Branch,
    *,
    draw: torch.Tensor | None,
    survival: float,
    layer: int = 0,
    depth: int = 1,
) -> torch.Tensor:
    """In one pass."""
    probability = 1 - (layer + 1) / depth * (1 - survival)
    if draw is None:
        return torch.add(x, branch(x), alpha=probability)
    return torch.addcmul(x, branch(x), (draw < probability).to(x.dtype))


def noise(
    features: int, generator: torch.Generator | None, survival: float
) -> Mapping[str, torch.Tensor]:
    """One number a call: the paper drops a layer for a whole batch."""
    return {"draw": torch.rand(1, generator=generator)}


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """Stochastic depth."""
    yield Connection(
        "stochastic_depth",
        forwards={"reference": reference, "torch": fused},
        options={"survival": 0.5},
        noise=noise,
        metadata=Metadata(
            title="Stochastic depth",
            summary="Branches are dropped at random when training, later ones more often.",
            formula=r"y = x + b_l F(x),\quad P(b_l = 1) = 1 - \tfrac{l}{L}(1 - p_L)",
            strengths=("regularises deep networks", "a shallower network to train"),
            weaknesses=("gradients are noisier", "hurts small networks that underfit"),
            use_when="Deep residual networks and vision transformers that overfit.",
            tags=("skip", "vision", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="Deep Networks with Stochastic Depth",
                authors=(
                    "Gao Huang",
                    "Yu Sun",
                    "Zhuang Liu",
                    "Daniel Sedra",
                    "Kilian Weinberger",
                ),
                year=2016,
                url="https://arxiv.org/abs/1603.09382",
            ),
            properties={"stochastic": True, "differentiable": True, "identity_path": True},
        ),
    )
