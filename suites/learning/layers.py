"""The layers of the models, each with a variant in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.registry.binding import resolve_options
from bakeoff.registry.module import module
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Activation
from bakeoff.suites.learning.given import Given
from bakeoff.suites.learning.parts import Part, Parts

__all__ = ["AttentionLayer", "FeedForward", "ShortConvolution", "Skip"]


class ShortConvolution(nn.Module):
    """A causal convolution over the sequence, one filter a feature (Zoology, section 5).

    Args:
        width: Size of a row.
        size: Positions that it sees: this one and those just before.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, size, groups=width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, width) to the same."""
        past = F.pad(x.mT, (self.conv.kernel_size[0] - 1, 0))
        seen: torch.Tensor = self.conv(past).mT
        return seen


class AttentionLayer(nn.Module):
    """Projections to q, k and v, an attention, and the projection of what it returns.

    Args:
        part: The attention.
        shape: The shape of its calls; the batch may differ.
        causal: Whether a query sees only the past.
        convolution: Width of the convolution before the projections; 0 for none.
        generator: Where the attention's own parameters are drawn from.

    Raises:
        UnsupportedError: Where the attention wants what the model can't give.
    """

    def __init__(
        self,
        part: Part,
        shape: Shape,
        *,
        causal: bool,
        convolution: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.causal = shape, causal
        width, rows = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.convolution = ShortConvolution(width, convolution) if convolution else nn.Identity()
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, rows, bias=False) for _ in range(2))
        self.output = nn.Linear(width, width, bias=False)
        options = resolve_options(part.variant, part.options)
        with torch.random.fork_rng(devices=[]):  # other layers are drawn as if it were not here
            made = Given(part.variant, shape, width, options) if part.variant.inputs else None
        self.given = made
        self.attention = module(
            part.variant, shape, forward=part.forward, options=options, generator=generator
        )

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        """(B, Nq, width) to the same.

        Args:
            x: Where queries come from.
            memory: (B, Nk, width): where keys and values come from, if not from ``x``.
        """
        x = self.convolution(x)
        source = x if memory is None else memory
        q, k, v = (
            project(rows).unflatten(-1, (-1, self.shape.head_dim)).transpose(1, 2)
            for project, rows in ((self.query, x), (self.key, source), (self.value, source))
        )
        given = self.given(source) if self.given else {}
        found = self.attention(q, k, v, causal=self.causal, grid=self.shape.grid, **given)
        rows: torch.Tensor = self.output(found.transpose(1, 2).flatten(2))
        return rows


class FeedForward(nn.Module):
    """Linear, activation, linear; a gated activation has 2/3 of the hidden units (Shazeer, 2020).

    Args:
        part: The activation.
        width: Size of a row.
        hidden: Units between.
        generator: Where the activation's own parameters are drawn from.
    """

    def __init__(
        self, part: Part, width: int, hidden: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        assert isinstance(part.variant, Activation)
        # So that a gated one, with three matrices, has as many parameters.
        units = round(2 * hidden / 3) if part.variant.gated else hidden
        before = 2 * units if part.variant.gated else units
        self.up, self.down = nn.Linear(width, before), nn.Linear(units, width)
        self.activation = module(
            part.variant, before, forward=part.forward, options=part.options, generator=generator
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, width) to the same."""
        rows: torch.Tensor = self.down(self.activation(self.up(x)))
        return rows


class Skip(nn.Module):
    """A connection about one layer.

    Args:
        parts: The connection, and whether the layer's input is normalised.
        layer: What it connects.
        width: Size of a row.
        place: Its number, from 0.
        depth: How many there are.
        generator: Where the connection's own parameters are drawn from.
    """

    def __init__(
        self,
        parts: Parts,
        layer: nn.Module,
        width: int,
        place: int,
        depth: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        part = parts.connection
        own = "norm" in part.variant.metadata.tags
        self.norm = nn.LayerNorm(width) if parts.norm and not own else nn.Identity()
        self.layer, self.place, self.depth = layer, place, depth
        self.connection = module(
            part.variant, width, forward=part.forward, options=part.options, generator=generator
        )

    def forward(
        self,
        x: torch.Tensor,
        history: Sequence[torch.Tensor] = (),
        memory: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, N, width) to the same.

        Args:
            x: The rows.
            history: What earlier connections put out, the oldest first.
            memory: Handed on to the layer, where there is any.
        """
        further = () if memory is None else (memory,)

        def branch(rows: torch.Tensor) -> torch.Tensor:
            put_out: torch.Tensor = self.layer(self.norm(rows), *further)
            return put_out

        call: Callable[..., torch.Tensor] = self.connection
        return call(x, branch, layer=self.place, depth=self.depth, history=history)
