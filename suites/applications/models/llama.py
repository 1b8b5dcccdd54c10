"""Llama (Touvron et al., 2023), keys shared by two heads each: the next token of a Markov chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application
from bakeoff.suites.applications.models.gpt2 import CHAIN, LENGTH, batch

if TYPE_CHECKING:
    from torch import nn


def build() -> nn.Module:
    """Two layers of 32 features."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model: nn.Module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=CHAIN.symbols, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2 * LENGTH,
            bos_token_id=None, eos_token_id=None, pad_token_id=None, use_cache=False,
        )
    )  # fmt: skip
    return model


APPLICATION = Application(
    name="llama",
    title="Llama (grouped queries), next token",
    pattern="causal_self",
    shape=Shape(16, 4, 2, LENGTH, LENGTH, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("input_ids",),
    floor=CHAIN.causal_entropy(LENGTH),
    batch_size=16,
    items=16 * LENGTH,
    unit="tokens",
    steps=120,
)
