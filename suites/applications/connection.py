"""Connections in the layers of a few models of transformers, whose residuals are known by class.

An addition in a layer's forward can't be found as an attention can: what follows holds for the
layers of GPT-2, Llama, ViT, CLIP and BERT (and of what is built from these, as UNITER), and for no
others. A layer is two branches, attention and feed-forward, each without its normalisation, which
belongs to the connection: GPT-2 with ``pre_norm`` is GPT-2, BERT with ``post_norm`` is BERT.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.module import VariantModule

__all__ = ["ConnectedLayer", "connected_layers"]

Branch = Callable[[torch.Tensor], torch.Tensor]
Given = Mapping[str, Any]


def _gpt2(layer: Any, given: Given) -> tuple[Branch, Branch]:
    return (lambda x: layer.attn(x, **given)[0], layer.mlp)


def _llama(layer: Any, given: Given) -> tuple[Branch, Branch]:
    return (lambda x: layer.self_attn(hidden_states=x, **given)[0], layer.mlp)


def _vit(layer: Any, given: Given) -> tuple[Branch, Branch]:
    return (
        lambda x: layer.dropout(layer.attention(x, **given)[0]),
        lambda x: layer.dropout(layer.mlp(x)),
    )


def _bert(layer: Any, given: Given) -> tuple[Branch, Branch]:
    attention, mixed, widened, output = (
        layer.attention.self, layer.attention.output, layer.intermediate, layer.output,
    )  # fmt: skip
    return (
        lambda x: mixed.dropout(mixed.dense(attention(x, **given)[0])),
        lambda x: output.dropout(output.dense(widened(x))),
    )


#: By the name of a layer's class: its branches.
_BRANCHES: Mapping[str, Callable[[Any, Given], tuple[Branch, Branch]]] = {
    "GPT2Block": _gpt2,
    "LlamaDecoderLayer": _llama,
    "CLIPEncoderLayer": _llama,
    "ViTLayer": _vit,
    "BertLayer": _bert,
}
BRANCHES = 2


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

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the original, but for how its branches are joined."""
        signature = inspect.signature(inspect.unwrap(type(self.original).forward))
        bound = signature.bind(self.original, hidden_states, *args, **kwargs).arguments
        given = {**bound, **bound.get("kwargs", {})}
        for name in ("self", "hidden_states", "kwargs"):
            given.pop(name, None)
        for name in ("encoder_hidden_states", "encoder_attention_mask"):
            if given.pop(name, None) is not None:
                raise UnsupportedError(f"a connection around cross-attention ({name} was given)")
        branches = _BRANCHES[type(self.original).__name__](self.original, given)
        place = self.layer
        for connection, branch in zip(self.connections, branches, strict=True):
            hidden_states = connection(hidden_states, branch, layer=place, depth=self.depth)
            place += 1
        return hidden_states


def connected_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers whose connections can be swapped, by name, as they were before any swap.

    Raises:
        UnsupportedError: Where the model has none.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, ConnectedLayer):
            found[name] = module.original
        elif type(module).__name__ in _BRANCHES and not name.endswith(".original"):
            found[name] = module
    if not found:
        raise UnsupportedError(
            "the model has no layer whose connections can be swapped; those of "
            f"{', '.join(_BRANCHES)} can"
        )
    return found
