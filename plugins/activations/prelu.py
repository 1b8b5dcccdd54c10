"""PReLU (He et al., 2015, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import Activation, Identity, Metadata, Paper, hookimpl


def reference(x: torch.Tensor, *, slope: torch.Tensor) -> torch.Tensor:
    """x above zero, slope · x below it, with a slope for each feature."""
    return torch.where(x > 0, x, slope * x)


def fused(x: torch.Tensor, *, slope: torch.Tensor) -> torch.Tensor:
    """torch's kernel, which wants the features in the second dimension."""
    return F.prelu(x.reshape(-1, x.shape[-1]), slope).reshape(x.shape)


def parameters(features: int, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Slope: a quarter, as in the paper."""
    return {"slope": nn.Parameter(torch.full((features,), 0.25))}


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """PReLU."""
    yield Activation(
        "prelu",
        forwards={"reference": reference, "torch": fused},
        parameters=parameters,
        identities=(
            Identity(
                "slope = 0",
                tensors=lambda features: {"slope": torch.zeros(features)},
                equals="relu",
            ),
        ),
        metadata=Metadata(
            title="PReLU",
            summary="Leaky ReLU whose slope is learned, one for each feature.",
            formula=r"\phi(x_i) = \max(0, x_i) + a_i \min(0, x_i)",
            strengths=("learns how much of the negative side to keep", "units do not die"),
            weaknesses=("more parameters", "can overfit on little data"),
            use_when="Deep networks with data enough to learn the slopes.",
            tags=("rectifier", "learnable", "hidden_layer", "vision"),
            paper=Paper(
                title="Delving Deep into Rectifiers: Surpassing Human-Level Performance on "
                "ImageNet Classification",
                authors=("Kaiming He", "Xiangyu Zhang", "Shaoqing Ren", "Jian Sun"),
                year=2015,
                url="https://arxiv.org/abs/1502.01852",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (-float("inf"), float("inf")),
                "zero_centred": False,
            },
        ),
    )
