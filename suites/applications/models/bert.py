"""BERT (Devlin et al., 2019): masked tokens of a Markov chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application
from bakeoff.suites.applications.chain import Chain

if TYPE_CHECKING:
    import torch
    from torch import nn

CHAIN = Chain(symbols=8, lag=1, noise=0.1)
LENGTH, MASK, VOCABULARY = 16, 8, 9
#: Masked places lie this far apart: both that tell about one are always seen.
APART = 2 * CHAIN.lag + 1
IGNORED = -100


def build() -> nn.Module:
    """Two layers of 32 features."""
    from transformers import BertConfig, BertForMaskedLM

    model: nn.Module = BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=LENGTH, type_vocab_size=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=None,
            initializer_range=0.1,
        )
    )  # fmt: skip
    return model


def batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """Every third token is masked, beginning anywhere that leaves both that tell about it."""
    import torch

    tokens = CHAIN.draw(generator, size, LENGTH)
    first = torch.randint(CHAIN.lag, CHAIN.lag + APART, (size, 1), generator=generator)
    places = torch.arange(LENGTH)
    masked = ((places - first) % APART == 0) & (places >= first)
    masked &= places < LENGTH - CHAIN.lag
    return {
        "input_ids": tokens.masked_fill(masked, MASK),
        "labels": tokens.masked_fill(~masked, IGNORED),
    }


APPLICATION = Application(
    name="bert",
    title="BERT, masked tokens",
    pattern="self",
    shape=Shape(32, 4, 4, LENGTH, LENGTH, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("input_ids",),
    floor=CHAIN.between_entropy,
    batch_size=32,
    items=32 * LENGTH,
    unit="tokens",
    steps=120,
    rate=5e-3,
)
