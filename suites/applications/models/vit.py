"""ViT (Dosovitskiy et al., 2021): handwritten digits as patches of 2 × 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application

if TYPE_CHECKING:
    import torch
    from torch import nn

PATCHES = 17  # 4 × 4, and the class token
#: Pictures that are only tested on, the last of the set.
HELD_OUT = 297


def build() -> nn.Module:
    """Two layers of 32 features."""
    from transformers import ViTConfig, ViTForImageClassification

    from bakeoff.suites.applications.digits import CLASSES, SIDE

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            image_size=SIDE, patch_size=2, num_channels=1, num_labels=CLASSES,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            initializer_range=0.1,
        )
    )  # fmt: skip


def batch(generator: torch.Generator, size: int, held_out: bool = False) -> dict[str, Any]:
    """Some of the pictures, with their classes."""
    import torch

    from bakeoff.suites.applications.digits import digits

    pictures, classes = digits()
    first, last = (len(classes) - HELD_OUT, len(classes)) if held_out else (0, len(classes) - HELD_OUT)
    chosen = torch.randint(first, last, (size,), generator=generator)
    return {"pixel_values": pictures[chosen], "labels": classes[chosen]}


APPLICATION = Application(
    name="vit",
    title="ViT, digits",
    pattern="self",
    shape=Shape(32, 4, 4, PATCHES, PATCHES, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("pixel_values",),
    floor=0.0,
    batch_size=32,
    items=32,
    unit="images",
    steps=150,
    needs={"transformers": "transformers", "sklearn": "transformers"},
)
