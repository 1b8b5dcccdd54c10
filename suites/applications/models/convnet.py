"""A convolutional network of ViT's size, on the same digits: what attention is compared with."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.models.vit import APPLICATION as VIT

if TYPE_CHECKING:
    import torch
    from torch import nn


def build() -> nn.Module:
    """Three convolutions and means over quarters (LeCun et al., 1989), with ViT's many weights."""
    from torch import nn

    from bakeoff.suites.digits import CLASSES

    widths = (1, 24, 38, 26)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], CLASSES)
    )


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """Cross-entropy, as ViT's."""
    import torch.nn.functional as F

    return F.cross_entropy(model(batch["pixel_values"]), batch["labels"])


#: Trained as ViT is, beside which it stands, but for the rate.
APPLICATION = replace(
    VIT,
    name="convnet",
    title="Convolutions, digits",
    shape=Shape(32, 1, 1, 64, 64, 1, 1),
    build=build,
    rate=3e-3,
    loss=loss,
    needs={"sklearn": "transformers"},
    attends=False,
)
