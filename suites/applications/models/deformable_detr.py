"""Deformable DETR (Zhu et al., 2021): the task of DETR, with attention to a few sampled places."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.models.detr import APPLICATION as DETR

if TYPE_CHECKING:
    from torch import nn


def build() -> nn.Module:
    """As DETR's, over two maps; its sampling attention stays, decoder queries attend as usual."""
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

    from bakeoff.suites.applications.scenes import QUERIES, backbone
    from bakeoff.suites.applications.shapes import SHAPES

    model: nn.Module = DeformableDetrForObjectDetection(
        DeformableDetrConfig(
            backbone_config=backbone("stage2", "stage3"), num_queries=QUERIES, d_model=32,
            encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0,
            attention_dropout=0.0, activation_dropout=0.0, num_labels=len(SHAPES),
            num_feature_levels=2, encoder_n_points=4, decoder_n_points=4,
            disable_custom_kernels=True,
        )
    )  # fmt: skip
    return model


#: Trained as DETR is, beside which it stands.
APPLICATION = replace(
    DETR,
    name="deformable_detr",
    title="Deformable DETR, boxes of shapes",
    shape=Shape(8, 4, 4, 4, 4, 8, 8),
    build=build,
)
