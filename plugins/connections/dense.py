"""Dense connection by depth-weighted averages (Pagliardini et al., 2024, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn

from bakeoff import Connection, Metadata, Paper, hookimpl

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(
    x: torch.Tensor,
    branch: Branch,
    *,
    weights: torch.Tensor,  # (layers + 1,), the last for this layer
    layers: int,
    history: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """α_l (x + F(x)) + Σ_j α_j y_j over the outputs y_j of earlier layers.

    DenseNet (Huang et al., 2017) joins earlier outputs side by side, and so grows; the average of
    DenseFormer keeps the width. It weighs what blocks put out before they are averaged; the
    averages that ``history`` holds, oldest first, are combinations of the same rows.
    """
    _require_weights(weights, history)
    total = weights[-1] * (x + branch(x))
    for back, earlier in enumerate(reversed(history), start=2):
        total = total + weights[-back] * earlier
    return total


def fused(
    x: torch.Tensor,
    branch: Branch,
    *,
    weights: torch.Tensor,
    layers: int,
    history: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """A product and an addition in one pass for each output."""
    _require_weights(weights, history)
    *before, own = weights.unbind()
    total = own * (x + branch(x))
    for weight, earlier in zip(before[len(before) - len(history) :], history, strict=True):
        total = torch.addcmul(total, weight, earlier)
    return total


def _require_weights(weights: torch.Tensor, history: Sequence[torch.Tensor]) -> None:
    if len(history) >= len(weights):
        raise ValueError(
            f"dense: {len(history)} earlier outputs, expected at most layers={len(weights) - 1}"
        )


def parameters(
    features: int, generator: torch.Generator | None, layers: int
) -> Mapping[str, torch.Tensor]:
    """One for this layer and zero for others: it begins as a residual network (section 3.1)."""
    weights = torch.zeros(layers + 1)
    weights[-1] = 1.0
    return {"weights": nn.Parameter(weights)}


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """Dense connection."""
    yield Connection(
        "dense",
        forwards={"reference": reference, "torch": fused},
        options={"layers": 64},
        parameters=parameters,
        metadata=Metadata(
            title="Dense connection (depth-weighted average)",
            summary="Each layer puts out a learned average of all outputs up to its own.",
            formula=r"y_l = \alpha_{l,l} (x_l + F_l(x_l)) + \sum_{j < l} \alpha_{l,j} y_j",
            strengths=("early features reach every layer", "a handful of parameters"),
            weaknesses=("all earlier outputs must be kept", "cost grows with depth squared"),
            use_when="Language models where data is scarcer than memory.",
            tags=("skip", "learnable", "language", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="DenseFormer: Enhancing Information Flow in Transformers via Depth "
                "Weighted Averaging",
                authors=(
                    "Matteo Pagliardini",
                    "Amirkeivan Mohtashami",
                    "Francois Fleuret",
                    "Martin Jaggi",
                ),
                year=2024,
                url="https://arxiv.org/abs/2402.02622",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": False},
        ),
    )
