"""ViT (Dosovitskiy et al., 2021): handwritten digits as patches of 2 × 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application

if TYPE_CHECKING:
    import torch
    from torch import nn

PATCHES = 17  # 4 × 4, and the class token


def build() -> nn.Module:
    """Two layers of 32 features."""
    from transformers import ViTConfig, ViTForImageClassification

    from bakeoff.suites.digits import CLASSES, SIDE

    model: nn.Module = ViTForImageClassification(
        ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            image_size=SIDE, patch_size=2, num_channels=1, num_labels=CLASSES,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            initializer_range=0.1,
        )
    )  # fmt: skip
    return model


def batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Some of the pictures, with their classes."""
    from bakeoff.suites.applications.digits import some_digits

    return some_digits(generator, size, held_out=False)


def test_batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Some of those that are never trained on."""
    from bakeoff.suites.applications.digits import some_digits

    return some_digits(generator, size, held_out=True)


APPLICATION = Application(
    name="vit",
    title="ViT, digits",
    pattern="self",
    shape=Shape(32, 4, 4, PATCHES, PATCHES, 8, 8),
    features=64,
    build=build,
    batch=batch,
    test_batch=test_batch,
    seen=("pixel_values",),
    floor=0.0,
    batch_size=32,
    items=32,
    unit="images",
    steps=120,
    rate=5e-3,
    needs={"transformers": "transformers", "sklearn": "transformers"},
)
