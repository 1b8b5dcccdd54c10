"""UNITER (Chen et al., 2020): do words and regions belong together, and which region is masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application
from bakeoff.suites.applications.shapes import SHAPES

if TYPE_CHECKING:
    import torch
    from torch import nn

WORDS, REGIONS, FIRST = 3, 2, 3  # [CLS] and a word for each region; [CLS] is token 3
IGNORED = -100


def build() -> nn.Module:
    """Two layers of 32 features."""
    from transformers import BertConfig

    from bakeoff.suites.applications.uniter import Uniter

    config = BertConfig(
        vocab_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=WORDS, type_vocab_size=2,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=None,
    )  # fmt: skip
    return Uniter(config, features=len(SHAPES), classes=len(SHAPES))


def batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Two regions from left to right, a word for each; in half of the pairs one word is wrong.

    One region of each matching pair is masked: only the word for it tells its class. Regions stand
    in any order, so that their geometry must be read.
    """
    import torch

    shapes = torch.randint(len(SHAPES), (size, REGIONS), generator=generator)
    matches = torch.arange(size) % 2
    words, rows = shapes.clone(), torch.arange(size)
    wrong = torch.randint(REGIONS, (size,), generator=generator)
    other = torch.randint(1, len(SHAPES), (size,), generator=generator)
    changed = (words[rows, wrong] + other) % len(SHAPES)
    words[rows, wrong] = torch.where(matches == 0, changed, words[rows, wrong])
    sides = 0.2 + 0.2 * torch.rand(size, REGIONS, 2, generator=generator)
    start = (0.5 - sides) * torch.rand(size, REGIONS, 2, generator=generator)
    start[..., 0] += 0.5 * torch.arange(REGIONS)
    area = sides.prod(-1, keepdim=True)
    geometry = torch.cat([start, start + sides, sides, area], -1)
    masked = torch.randint(REGIONS, (size, 1), generator=generator) == torch.arange(REGIONS)
    masked &= (matches == 1)[:, None]
    features = torch.nn.functional.one_hot(shapes, len(SHAPES)).float()
    order = torch.rand(size, REGIONS, generator=generator).argsort(1)
    pick = order[..., None]
    return {
        "input_ids": torch.cat([torch.full((size, 1), FIRST), words], 1),
        "regions": features.masked_fill(masked[..., None], 0.0).take_along_dim(pick, 1),
        "geometry": geometry.take_along_dim(pick, 1),
        "matches": matches,
        "classes": shapes.masked_fill(~masked, IGNORED).take_along_dim(order, 1),
    }


APPLICATION = Application(
    name="uniter",
    title="UNITER, words and regions",
    pattern="self",
    shape=Shape(32, 4, 4, WORDS + REGIONS, WORDS + REGIONS, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("input_ids",),
    floor=0.0,
    batch_size=32,
    items=32 * (WORDS + REGIONS),
    unit="tokens",
    steps=120,
)
