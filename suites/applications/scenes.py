"""Pictures with one or two shapes, and where they are, as a detector is taught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bakeoff.suites.applications.shapes import COLOURS, SHAPES, draw

if TYPE_CHECKING:
    from transformers import ResNetConfig

__all__ = ["QUERIES", "SIDE", "backbone", "box_loss", "scenes"]

SIDE, QUERIES = 32, 4
_MOST = 2
#: Weights of the distance of boxes and of their overlap (Carion et al., 2020, appendix A.4).
_DISTANCE, _OVERLAP = 5.0, 2.0


def backbone(*stages: str) -> ResNetConfig:
    """A small convolutional network, of which the stages named go on."""
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[1, 1, 1], layer_type="basic",
        out_features=list(stages),
    )  # fmt: skip


def scenes(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Pictures (size, 3, 32, 32); for each the class and the box of every shape."""
    pictures, labels = [], []
    for _ in range(size):
        count = int(torch.randint(1, _MOST + 1, (), generator=generator))
        colours = torch.randint(len(COLOURS), (count,), generator=generator)
        shapes = torch.randint(len(SHAPES), (count,), generator=generator)
        sides = 0.25 + 0.2 * torch.rand(count, 2, generator=generator)
        # Each in a part of its own, from left to right, so that none hides another.
        room = torch.tensor([1 / count, 1.0])
        centres = sides / 2 + (room - sides) * torch.rand(count, 2, generator=generator)
        centres[:, 0] += torch.arange(count) / count
        boxes = torch.cat([centres, sides], 1)
        pictures.append(draw(SIDE, colours.tolist(), shapes.tolist(), boxes.tolist()))
        labels.append({"class_labels": shapes, "boxes": boxes})
    return {"pixel_values": torch.stack(pictures), "labels": labels}


def box_loss(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, float]:
    """The loss of the matched boxes alone: 5 · distance + 2 · (1 − overlap).

    Both detectors have it; what they add for classes differs between them.
    """
    parts = model(**batch).loss_dict
    return {
        "box_loss": _DISTANCE * float(parts["loss_bbox"]) + _OVERLAP * float(parts["loss_giou"])
    }
