"""CLIP (Radford et al., 2021): pictures of shapes and their captions, two towers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application
from bakeoff.suites.applications.shapes import COLOURS, SHAPES, draw

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDE, PATCH = 12, 4
PATCHES = (SIDE // PATCH) ** 2 + 1
BEGIN, END = 6, 7  # after the words: three colours, three shapes


def build() -> nn.Module:
    """Two layers of 32 features in each tower."""
    from transformers import CLIPConfig, CLIPModel

    common = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "projection_dim": 16, "initializer_factor": 3.0,
    }  # fmt: skip
    text = {
        "vocab_size": 8, "max_position_embeddings": 4, "bos_token_id": BEGIN,
        "eos_token_id": END, "pad_token_id": END,
    }  # fmt: skip
    vision = {"image_size": SIDE, "patch_size": PATCH}
    model: nn.Module = CLIPModel(
        CLIPConfig(
            text_config={**common, **text},
            vision_config={**common, **vision},
            projection_dim=16,
            initializer_factor=3.0,
        )
    )
    return model


def batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Pairs of which no two have the same caption, as long as there are as many captions."""
    import torch

    kinds = len(COLOURS) * len(SHAPES)
    rounds = [torch.randperm(kinds, generator=generator) for _ in range(math.ceil(size / kinds))]
    kind = torch.cat(rounds)[:size]
    colours, shapes = kind // len(SHAPES), kind % len(SHAPES)
    words = [torch.full((size,), BEGIN), colours, len(COLOURS) + shapes, torch.full((size,), END)]
    width = 0.7 + 0.3 * torch.rand(size, generator=generator)
    centre = width / 2 + (1 - width) * torch.rand(2, size, generator=generator)
    boxes = torch.stack([*centre, width, width], 1).tolist()
    pictures = [
        draw(SIDE, [colour], [shape], [box])
        for colour, shape, box in zip(colours.tolist(), shapes.tolist(), boxes, strict=True)
    ]
    return {
        "input_ids": torch.stack(words, 1),
        "pixel_values": torch.stack(pictures),
        "return_loss": True,
    }


APPLICATION = Application(
    name="clip",
    title="CLIP, captions of shapes",
    pattern="self",
    shape=Shape(9, 4, 4, PATCHES, PATCHES, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("pixel_values",),
    floor=0.0,
    batch_size=9,
    items=9,
    unit="images",
    steps=120,
)
