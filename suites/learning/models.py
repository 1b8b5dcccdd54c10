"""The models: a transformer, an encoder with a decoder, and an MLP, all tiny."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bakeoff.registry.binding import takes
from bakeoff.registry.module import module
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Activation, Variant
from bakeoff.suites.learning.layers import AttentionLayer, FeedForward, Skip
from bakeoff.suites.learning.parts import Parts
from bakeoff.suites.learning.task import Task
from bakeoff.suites.product import usual_heads

__all__ = ["MLP", "EncoderDecoder", "Sizes", "Transformer", "build", "cases_of", "shape_of"]

#: Added to a seed for what a variant draws itself, so that all else is the same for all variants.
OWN = 2**32


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model.

    Args:
        depth: Layers; a layer of a transformer is an attention and a feed-forward block.
        width: Size of a row.
        heads: Heads of an attention.
    """

    depth: int = 2
    width: int = 64
    heads: int = 2


def build(task: Task, parts: Parts, sizes: Sizes, seed: int = 0) -> nn.Module:
    """A model for ``task``, its weights drawn from ``seed``.

    Two models that differ in a part have the same weights elsewhere, as far as they have the same
    sizes. Calls are
    ``model(x, given)``; see :class:`bakeoff.suites.learning.task.Examples`.

    Raises:
        UnsupportedError: Where a part wants what the model can't give.
    """
    kinds: dict[str, type[MLP | EncoderDecoder | Transformer]] = {
        "mlp": MLP,
        "encoder_decoder": EncoderDecoder,
        "transformer": Transformer,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kinds[task.model](task, parts, sizes, torch.Generator().manual_seed(seed + OWN))


def shape_of(
    variant: Variant, task: Task, sizes: Sizes, q_len: int, k_len: int, grid: bool = False
) -> Shape:
    """The shape of the attention calls in a model, for a batch of the task's size."""
    dim = sizes.width // sizes.heads
    places = task.grid if grid else None
    shape = Shape(task.batch, sizes.heads, sizes.heads, q_len, k_len, dim, dim, places)
    return usual_heads(variant, shape)


def cases_of(variant: Variant, task: Task, sizes: Sizes, seed: int = 0) -> list[Case]:
    """Every case in which the task's model calls ``variant``, the one to speak of first."""

    def case(pattern: str | None, shape: Shape | FeatureShape) -> Case:
        return Case(
            kind=variant.kind,
            shape=shape,
            pattern=pattern,
            options=variant.options,
            direction="training",
            seed=seed,
        )

    if variant.kind != "attention":
        return [case(None, FeatureShape(task.batch, task.length, sizes.width))]
    source, target = task.length, task.target_length
    if task.model != "encoder_decoder":
        shape = shape_of(variant, task, sizes, source, source, takes(variant, "grid"))
        return [case(task.pattern, shape)]
    return [
        case(pattern, shape_of(variant, task, sizes, q_len, k_len))
        for pattern, q_len, k_len in (
            ("cross", target, source),
            ("self", source, source),
            ("causal_self", target, target),
        )
    ]


class _Reading(nn.Module):
    """Tokens or rows of numbers, and where they stand: (B, N) or (B, N, F) to (B, N, width)."""

    def __init__(self, task: Task, width: int, length: int) -> None:
        super().__init__()
        make = nn.Linear if task.numeric else nn.Embedding
        self.rows = make(task.entries, width)
        places = torch.randn(length, width) / math.sqrt(width)
        self.places = nn.Parameter(places) if task.places else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.rows(x) + self.places
        return rows


class Transformer(nn.Module):
    """Layers of attention and feed-forward (pre-norm, where the connection is residual).

    Args:
        task: What it reads and answers; one answer for the whole is read off the mean row.
        parts: What stands in its places.
        sizes: Its sizes.
        generator: Where the variants' own parameters are drawn from.
    """

    def __init__(self, task: Task, parts: Parts, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.pooled = task.answers != "each"
        self.reading = _Reading(task, sizes.width, task.length)
        self.stack = _Stack(task, parts, sizes, generator, task.length, task.pattern)
        self.answer = nn.Linear(sizes.width, task.outputs)

    def forward(self, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N) tokens or (B, N, F) to (B, N, outputs), or (B, outputs)."""
        rows = self.stack(self.reading(x))
        answers: torch.Tensor = self.answer(rows.mean(1) if self.pooled else rows)
        return answers


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder that attends to it (Vaswani et al., 2017, section 3.1).

    Args:
        task: What it reads and answers.
        parts: What stands in its places: the attention in all three kinds of place.
        sizes: Its sizes, of the encoder and of the decoder alike.
        generator: Where the variants' own parameters are drawn from.
    """

    def __init__(self, task: Task, parts: Parts, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        source, target = task.length, task.target_length
        self.source = _Reading(task, sizes.width, source)
        self.target = _Reading(task, sizes.width, target)
        self.encoder = _Stack(task, parts, sizes, generator, source, "self")
        self.decoder = _Stack(task, parts, sizes, generator, target, "causal_self", source)
        self.answer = nn.Linear(sizes.width, task.outputs)

    def forward(self, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """(B, N) tokens, and the (B, T) that the decoder has read, to (B, T, outputs)."""
        memory = self.encoder(self.source(x))
        answers: torch.Tensor = self.answer(self.decoder(self.target(given), memory))
        return answers


class _Stack(nn.Module):
    """Attention (with ``memory_len``, to a memory too) and feed-forward, ``depth`` times."""

    def __init__(
        self,
        task: Task,
        parts: Parts,
        sizes: Sizes,
        generator: torch.Generator,
        length: int,
        pattern: str,
        memory_len: int = 0,
    ) -> None:
        super().__init__()
        variant, width = parts.attention.variant, sizes.width
        on_grid = bool(task.grid) and takes(variant, "grid")

        def attention(k_len: int, causal: bool) -> AttentionLayer:
            shape = shape_of(variant, task, sizes, length, k_len, on_grid)
            own = task.convolution if k_len == length else 0
            return AttentionLayer(
                parts.attention, shape, causal=causal, convolution=own, generator=generator
            )

        layers: list[nn.Module] = []
        self.crossing = []
        for _ in range(sizes.depth):
            layers.append(attention(length, pattern == "causal_self"))
            if memory_len:
                self.crossing.append(len(layers))
                layers.append(attention(memory_len, causal=False))
            layers.append(FeedForward(parts.activation, width, 2 * width, generator))
        self.skips = nn.ModuleList(
            Skip(parts, layer, width, place, len(layers), generator)
            for place, layer in enumerate(layers)
        )
        self.norm = nn.LayerNorm(width) if parts.norm else nn.Identity()

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        history: list[torch.Tensor] = []
        for place, skip in enumerate(self.skips):
            x = skip(x, tuple(history), memory if place in self.crossing else None)
            history.append(x)
        rows: torch.Tensor = self.norm(x)
        return rows


class MLP(nn.Module):
    """Layers y = W φ(x), or W φ(LayerNorm(x)), each in a connection (He et al., 2016, section 4).

    All positions are read side by side. Weights are normal with variance 2 / fan-in (He et al.,
    2015, equation 10). A gated activation hands on half as many features.

    Args:
        task: What it reads and answers.
        parts: Its activation and its connection.
        sizes: Its sizes: ``depth`` layers between the first and the last.
        generator: Where the variants' own parameters are drawn from.
    """

    def __init__(self, task: Task, parts: Parts, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        width = sizes.width
        self.reading = _he(nn.Linear(task.length * task.entries, width))
        self.skips = nn.ModuleList(
            Skip(parts, _layer(parts, width, width, generator), width, i, sizes.depth, generator)
            for i in range(sizes.depth)
        )
        self.norm = nn.LayerNorm(width) if parts.norm else nn.Identity()
        self.answer = _layer(parts, width, task.outputs, generator)

    def forward(self, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N, F) to (B, outputs)."""
        x = self.reading(x.flatten(1))
        history: list[torch.Tensor] = []
        for skip in self.skips:
            x = skip(x, tuple(history))
            history.append(x)
        answers: torch.Tensor = self.answer(self.norm(x))
        return answers


def _layer(parts: Parts, width: int, outputs: int, generator: torch.Generator) -> nn.Module:
    """φ, then a linear map."""
    part = parts.activation
    assert isinstance(part.variant, Activation)
    activation = module(
        part.variant, width, forward=part.forward, options=part.options, generator=generator
    )
    left = width // 2 if part.variant.gated else width
    return nn.Sequential(activation, _he(nn.Linear(left, outputs)))


def _he(linear: nn.Linear) -> nn.Linear:
    nn.init.kaiming_normal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
