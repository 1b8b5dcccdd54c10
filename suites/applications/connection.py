"""Connections in the layers of a few models of transformers: the branches joined by a variant.

The model's normalisation is left out, since it belongs to the connection: GPT-2 with ``pre_norm``
is GPT-2, BERT and DETR with ``post_norm`` are themselves. Which layers, and which branches they
have, stands in :mod:`bakeoff.suites.applications.branches`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.module import VariantModule
from bakeoff.suites.applications.branches import LAYERS, branches_of, finished

__all__ = ["ConnectedLayer", "connected_layers"]


class ConnectedLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """A layer whose branches are joined by a variant.

    Args:
        original: The layer as it was.
        connections: One for each branch.
        layer: The place of its first branch among all of the model, from 0.
        depth: How many branches the model has.
    """

    def __init__(
        self, original: nn.Module, connections: list[VariantModule], layer: int, depth: int
    ) -> None:
        super().__init__()
        self.original, self.layer, self.depth = original, layer, depth
        self.connections = nn.ModuleList(connections)
        self.register_forward_hook(_heard, with_kwargs=True)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the original, but for how its branches are joined."""
        branches = branches_of(self.original, **self._told(hidden_states, *args, **kwargs))
        pairs = zip(self.connections, branches, strict=True)
        for place, (connection, branch) in enumerate(pairs, self.layer):
            if branch is not None:
                hidden_states = connection(hidden_states, branch, layer=place, depth=self.depth)
        return finished(self.original, hidden_states)

    def _told(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments of a call beside the hidden states, by the names of the original."""
        signature = inspect.signature(inspect.unwrap(type(self.original).forward))
        told = signature.bind(self.original, *args, **kwargs).arguments
        for name in ("self", "hidden_states"):
            del told[name]
        rest = told.pop("kwargs", {})
        return {**told, **rest}


def _heard(
    connected: ConnectedLayer, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
) -> Any:
    """Let those who listen to the original hear what stands for it.

    transformers collects ``output_hidden_states`` by hooks on modules of the layer's class.
    """
    original = connected.original
    for key, hook in original._forward_hooks.items():
        given = (args, kwargs) if key in original._forward_hooks_with_kwargs else (args,)
        replaced = hook(original, *given, output)
        output = output if replaced is None else replaced
    return output


def connected_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers whose connections can be swapped, by name, as they were before any swap.

    Raises:
        UnsupportedError: Where the model has none.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, ConnectedLayer):
            found[name] = module.original
        elif type(module).__name__ in LAYERS and not name.endswith(".original"):
            found[name] = module
    if not found:
        raise UnsupportedError(
            "the model has no layer whose connections can be swapped; those of "
            f"{', '.join(LAYERS)} can"
        )
    return found
