"""The branches of the layers of a few models of transformers, which are known by class.

An addition in a layer's forward can't be found as an attention can: what follows holds for the
layers of GPT-2, Llama, ViT, CLIP, BERT, DETR and Deformable DETR (and of what is built from these,
as UNITER), and for no others. A branch is what is added to the hidden states: an attention or the
feed-forward network, with its dropout and without its normalisation, which belongs to the
connection. A decoder layer of a detector has three: the queries among themselves, the queries to
the image, and the feed-forward network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.registry.errors import UnsupportedError

__all__ = ["LAYERS", "branches_of", "finished", "width_of"]

Tensor = torch.Tensor
#: F(x) of x (B, N, F); None for one that the layer leaves out of this call.
Branch = Callable[[Tensor], Tensor] | None


def branches_of(layer: nn.Module, /, **told: Any) -> tuple[Branch, ...]:
    """The branches of a layer, in order; as many of them, whatever it is told.

    Args:
        layer: One whose class is among :data:`LAYERS`.
        told: What a call of the layer brings beside the hidden states: masks, positions, caches,
            the image. It reaches every branch that the layer's own forward would tell it.

    Raises:
        UnsupportedError: Where the call is for a branch that is not known here.
    """
    return LAYERS[type(layer).__name__](layer, **told)


def width_of(layer: nn.Module) -> int:
    """The size F of the hidden states: what the layer, or its attention's configuration, names."""
    named: tuple[Any, ...] = (layer, *(getattr(each, "config", None) for each in layer.modules()))
    return int(next(each.hidden_size for each in named if hasattr(each, "hidden_size")))


def finished(layer: nn.Module, x: Tensor) -> Tensor:
    """What the layer does with the hidden states x (B, N, F) after its last branch."""
    if not (layer.training and type(layer).__name__ in _CLAMPED):
        return x
    if bool(torch.isfinite(x).all()):
        return x
    most = torch.finfo(x.dtype).max - 1000
    return x.clamp(-most, most)


def _gpt2(layer: Any, **told: Any) -> tuple[Branch, ...]:
    told = _without_cross(told)
    return (lambda x: layer.attn(x, **told)[0], layer.mlp)


def _llama(layer: Any, **told: Any) -> tuple[Branch, ...]:
    return (lambda x: layer.self_attn(x, **told)[0], layer.mlp)


def _vit(layer: Any, **told: Any) -> tuple[Branch, ...]:
    return (
        lambda x: layer.dropout(layer.attention(x, **told)[0]),
        lambda x: layer.dropout(layer.mlp(x)),
    )


def _bert(layer: Any, **told: Any) -> tuple[Branch, ...]:
    told = _without_cross(told)
    attention, mixed, widened, output = (
        layer.attention.self, layer.attention.output, layer.intermediate, layer.output,
    )  # fmt: skip
    return (
        lambda x: mixed.dropout(mixed.dense(attention(x, **told)[0])),
        lambda x: output.dropout(output.dense(widened(x))),
    )


def _without_cross(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told to a layer whose cross-attention is no branch here."""
    cross = ("encoder_hidden_states", "encoder_attention_mask")
    for name in cross:
        if told.get(name) is not None:
            raise UnsupportedError(
                f"a connection around cross-attention ({name} was given), which is a branch only "
                "in the decoders of DETR and Deformable DETR; leave this layer out (where=…)"
            )
    return {name: value for name, value in told.items() if name not in cross}


def _detr_encoder(
    layer: Any, *, spatial_position_embeddings: Tensor | None = None, **told: Any
) -> tuple[Branch, ...]:
    def among_places(x: Tensor) -> Tensor:
        return _dropped(
            layer, layer.self_attn(x, position_embeddings=spatial_position_embeddings, **told)
        )

    return (among_places, layer.mlp)


def _detr_decoder(
    layer: Any,
    *,
    attention_mask: Tensor | None = None,
    spatial_position_embeddings: Tensor | None = None,
    object_queries_position_embeddings: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    **rest: Any,
) -> tuple[Branch, ...]:
    own = {"position_embeddings": object_queries_position_embeddings, **rest}

    def among_queries(x: Tensor) -> Tensor:
        return _dropped(layer, layer.self_attn(x, attention_mask=attention_mask, **own))

    def to_image(x: Tensor) -> Tensor:
        attended = layer.encoder_attn(
            x,
            key_value_states=encoder_hidden_states,
            attention_mask=encoder_attention_mask,
            encoder_position_embeddings=spatial_position_embeddings,
            **own,
        )
        return _dropped(layer, attended)

    return (among_queries, None if encoder_hidden_states is None else to_image, layer.mlp)


def _deformable_encoder(
    layer: Any,
    *,
    attention_mask: Tensor | None = None,
    spatial_position_embeddings: Tensor | None = None,
    **sampled: Any,
) -> tuple[Branch, ...]:
    def among_places(x: Tensor) -> Tensor:
        attended = layer.self_attn(
            x,
            attention_mask=attention_mask,
            encoder_hidden_states=x,
            encoder_attention_mask=attention_mask,
            position_embeddings=spatial_position_embeddings,
            **sampled,
        )
        return _dropped(layer, attended)

    return (among_places, layer.mlp)


def _deformable_decoder(
    layer: Any,
    *,
    object_queries_position_embeddings: Tensor | None = None,
    reference_points: Tensor | None = None,
    spatial_shapes: Tensor | None = None,
    spatial_shapes_list: list[tuple[int, int]] | None = None,
    level_start_index: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    **rest: Any,
) -> tuple[Branch, ...]:
    queries = object_queries_position_embeddings

    def among_queries(x: Tensor) -> Tensor:
        return _dropped(layer, layer.self_attn(x, position_embeddings=queries, **rest))

    def to_image(x: Tensor) -> Tensor:
        attended = layer.encoder_attn(
            x,
            attention_mask=encoder_attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            position_embeddings=queries,
            reference_points=reference_points,
            spatial_shapes=spatial_shapes,
            spatial_shapes_list=spatial_shapes_list,
            level_start_index=level_start_index,
        )
        return _dropped(layer, attended)

    return (among_queries, to_image, layer.mlp)


def _dropped(layer: Any, attended: tuple[Tensor, Any]) -> Tensor:
    """The output of a detector's attention, its weights left; only the MLP drops by itself."""
    return F.dropout(attended[0], layer.dropout, layer.training)


#: By the name of a layer's class: its branches, of what it is told.
LAYERS: Mapping[str, Callable[..., tuple[Branch, ...]]] = {
    "GPT2Block": _gpt2,
    "LlamaDecoderLayer": _llama,
    "CLIPEncoderLayer": _llama,
    "ViTLayer": _vit,
    "BertLayer": _bert,
    "DetrEncoderLayer": _detr_encoder,
    "DetrDecoderLayer": _detr_decoder,
    "DeformableDetrEncoderLayer": _deformable_encoder,
    "DeformableDetrDecoderLayer": _deformable_decoder,
}
#: Those that in training bring what has overflowed back to what the type can hold.
_CLAMPED = ("DetrEncoderLayer", "DeformableDetrEncoderLayer")
