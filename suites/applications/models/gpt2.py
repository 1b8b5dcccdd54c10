"""GPT-2 (Radford et al., 2019): the next token of a Markov chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications.application import Application
from bakeoff.suites.applications.chain import Chain

if TYPE_CHECKING:
    import torch
    from torch import nn

CHAIN = Chain(symbols=8, lag=2, noise=0.1)
LENGTH = 24


def build() -> nn.Module:
    """Two layers of 32 features."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model: nn.Module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=CHAIN.symbols, n_positions=2 * LENGTH, n_embd=32, n_layer=2, n_head=4,
            n_inner=64, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=None,
            eos_token_id=None, use_cache=False,
        )
    )  # fmt: skip
    return model


def batch(generator: torch.Generator, size: int) -> dict[str, Any]:
    """The model shifts the labels itself."""
    tokens = CHAIN.draw(generator, size, LENGTH)
    return {"input_ids": tokens, "labels": tokens}


APPLICATION = Application(
    name="gpt2",
    title="GPT-2, next token",
    pattern="causal_self",
    shape=Shape(16, 4, 4, LENGTH, LENGTH, 8, 8),
    features=64,
    build=build,
    batch=batch,
    seen=("input_ids",),
    floor=CHAIN.causal_entropy(LENGTH),
    batch_size=16,
    items=16 * LENGTH,
    unit="tokens",
    steps=120,
    rate=5e-3,
)
