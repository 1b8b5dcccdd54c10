"""What a variant wants to be given at each call, made by the model that it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bakeoff.registry.binding import draw
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Variant

__all__ = ["Given"]

#: The standard normal is cut off here, and its quantiles are taken at so many places.
EDGE, KNOTS = 4.0, 801
#: Draws of an input from which its quantiles come.
DRAWS = 2**16


class Given(nn.Module):
    """The declared ``inputs`` of an attention, from the rows that its keys come from.

    - One row per key, (B, H, Nk, …): predicted. z = W x + b is about standard normal at the start,
      and the quantile function of the generator's own draws, at Φ(z), carries it to where those
      lie. Where the generator transforms a normal, as log σ(z + 2), that is its transform.
    - The same in every draw, as the places of queries: handed on as it is.
    - Anything else, as a memory of its own for each example, has no source in this model.

    Args:
        variant: The variant.
        shape: The shape of its calls; the batch may differ from call to call.
        width: Size of the rows.
        options: Its options, complete.

    Raises:
        UnsupportedError: For an input that has no source here.
    """

    def __init__(
        self, variant: Variant, shape: Shape, width: int, options: Mapping[str, Any]
    ) -> None:
        super().__init__()

        longer = replace(shape, q_len=shape.q_len + 1, k_len=shape.k_len + 1, grid=None)

        def drawn(seed: int, shape: Shape = shape) -> dict[str, torch.Tensor]:
            generator = torch.Generator().manual_seed(seed)
            return draw(variant, "inputs", shape, generator, options)

        self.predicted, self.constant = nn.ModuleDict(), []
        first, second, more = drawn(0), drawn(1), drawn(0, longer)
        for name, tensor in first.items():
            if torch.equal(tensor, second[name]):
                self.constant.append(name)
                self.register_buffer(name, tensor[:1])
            elif more[name].shape[:3] == (shape.batch, shape.heads, longer.k_len):
                self.predicted[name] = _Predicted(name, tensor.shape, width, drawn)
            else:
                raise UnsupportedError(
                    f"its input {name} {tuple(tensor.shape)} is neither a row for each key nor the "
                    "same in every draw: nothing in this model gives it"
                )

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """The inputs by name.

        Args:
            rows: (B, Nk, width): what keys and values are projected from.
        """
        made = {name: module(rows) for name, module in self.predicted.items()}
        for name in self.constant:
            tensor: torch.Tensor = getattr(self, name)
            made[name] = tensor.expand(len(rows), *tensor.shape[1:])
        return made


class _Predicted(nn.Module):
    """A linear map, and the quantile function of what is drawn."""

    quantiles: torch.Tensor

    def __init__(
        self,
        name: str,
        size: torch.Size,
        width: int,
        drawn: Callable[[int], Mapping[str, torch.Tensor]],
    ) -> None:
        super().__init__()
        self.heads, self.trailing = size[1], size[3:]
        self.linear = nn.Linear(width, self.heads * self.trailing.numel())
        rounds = -(-DRAWS // size.numel())
        values = torch.cat([drawn(seed)[name].flatten() for seed in range(rounds)])
        at = torch.special.ndtr(torch.linspace(-EDGE, EDGE, KNOTS, dtype=torch.float64))
        ordered = values.double().sort().values
        place = at * (len(ordered) - 1)
        low, high = ordered[place.floor().long()], ordered[place.ceil().long()]
        self.register_buffer("quantiles", torch.lerp(low, high, place.frac()).float())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        z = self.linear(rows)  # (B, Nk, H·…)
        place = (z.clamp(-EDGE, EDGE) + EDGE) * ((KNOTS - 1) / (2 * EDGE))
        below = place.detach().floor().clamp(max=KNOTS - 2).long()
        made = torch.lerp(self.quantiles[below], self.quantiles[below + 1], place - below)
        made = made.view(*rows.shape[:2], self.heads, *self.trailing)
        return made.transpose(1, 2)  # (B, H, Nk, …)
