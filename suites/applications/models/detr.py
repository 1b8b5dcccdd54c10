"""DETR (Carion et al., 2020): boxes and classes of drawn shapes, with matching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application

if TYPE_CHECKING:
    import torch
    from torch import nn

POSITIONS = 16  # a map of 4 × 4


def build() -> nn.Module:
    """Two layers of 32 features on each side, over the last map of a small backbone."""
    from transformers import DetrConfig, DetrForObjectDetection

    from bakeoff.suites.applications.scenes import QUERIES, backbone
    from bakeoff.suites.applications.shapes import SHAPES

    model: nn.Module = DetrForObjectDetection(
        DetrConfig(
            backbone_config=backbone("stage2"), num_queries=QUERIES, d_model=32,
            encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0,
            attention_dropout=0.0, activation_dropout=0.0, num_labels=len(SHAPES),
        )
    )  # fmt: skip
    return model


def batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Scenes of one or two shapes."""
    from bakeoff.suites.applications.scenes import scenes

    return scenes(generator, size)


def scores(model: nn.Module, batch: Any) -> dict[str, float]:
    """The loss of the boxes."""
    from bakeoff.suites.applications.scenes import box_loss

    return box_loss(model, batch)


APPLICATION = Application(
    name="detr",
    title="DETR, boxes of shapes",
    pattern="self",
    shape=Shape(8, 4, 4, POSITIONS, POSITIONS, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("pixel_values",),
    floor=0.0,
    batch_size=8,
    items=8,
    unit="images",
    steps=120,
    scores=scores,
    needs={"transformers": "transformers", "PIL": "transformers"},
)
