"""Puts a variant into a model of transformers, and takes it out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from bakeoff.registry.binding import takes
from bakeoff.registry.errors import UnsupportedError, UsageError, typed
from bakeoff.registry.module import VariantModule, module
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Activation, Attention, Connection, Variant
from bakeoff.suites.applications.activation import ActivationSite
from bakeoff.suites.applications.attention import (
    ATTACHED,
    IMPLEMENTATION,
    AttentionSite,
    register,
)
from bakeoff.suites.applications.branches import branches_of, width_of
from bakeoff.suites.applications.examples import run_once
from bakeoff.suites.applications.sites import (
    Where,
    activation_sites,
    attention_sites,
    chosen_sites,
    require_model,
)

__all__ = ["restore", "swap"]

M = TypeVar("M", bound=nn.Module)

#: The size of what has no parameters, which is drawn for no shape.
_ANY = Shape(1, 1, 1, 1, 1, 1, 1)
#: Implementations whose mask we can make, for layers that keep them.
_KNOWN = ("eager", "sdpa")


def swap(
    model: M,
    variant: Variant,
    *,
    forward: str = "reference",
    options: Mapping[str, Any] | None = None,
    where: Where | None = None,
    example: Mapping[str, Any] | None = None,
) -> M:
    """Put a variant in place of what a model of transformers has: attention, activations, skips.

    Its parameters become the model's own: they are in ``parameters()`` and ``state_dict()``, are
    copied, moved and saved with it; make the optimizer after the swap. A second swap replaces the
    first where it takes the same layers. :func:`restore` undoes all.

    Causality, padding, grouped heads and caches reach the variant. What it has no place for is
    refused when the model calls it: a bias on the scores, a cap, dropout of weights.

    An attention or an activation goes into any model. A connection goes into the layers of GPT-2,
    Llama, ViT, CLIP, BERT, DETR and Deformable DETR alone, around branches without their
    normalisation, which is the connection's own affair.

    Args:
        model: Any model of transformers whose attention goes through its interface; changed in
            place.
        variant: An attention, an activation or a connection.
        forward: Which of the variant's forwards to run.
        options: Options that differ from their defaults.
        where: Some layers only: a glob over the names of modules (``"*.h.0.*"``), or a predicate
            on a name. None takes all.
        example: Arguments of a call of the model, from which a variant with parameters learns its
            sizes. None makes some up; give it where parameters depend on the length.

    Returns:
        The same model.

    Raises:
        UsageError: For what is no model or no variant, or where ``where`` takes none.
        UnsupportedError: Where the variant needs what the model does not give.
        UnknownNameError: For an unknown forward or option.
    """
    require_model(model)
    if isinstance(variant, Attention):
        _swap_attention(model, variant, forward, options, where, example)
    elif isinstance(variant, Activation):
        _swap_activation(model, variant, forward, options, where, example)
    elif isinstance(variant, Connection):
        _swap_connection(model, variant, forward, options, where)
    else:
        raise UsageError(
            f"variant is {typed(variant)}, expected one such as bakeoff.load()['alibi']"
        )
    return model


def restore(model: M) -> M:
    """Undo every :func:`swap`: the model computes what it did before, with its own weights.

    Args:
        model: The model; changed in place. One that was never swapped stays as it is.

    Returns:
        The same model.
    """
    require_model(model)
    for kind in _replacing():
        for name, site in list(model.named_modules()):
            if isinstance(site, kind):
                _put(model, name, site.get_submodule("original"))
    for owner in attention_sites(model).values():
        if hasattr(owner, ATTACHED):
            _detach(owner)
    return model


def _swap_attention(
    model: nn.Module,
    variant: Attention,
    forward: str,
    options: Mapping[str, Any] | None,
    where: Where | None,
    example: Mapping[str, Any] | None,
) -> None:
    sites = attention_sites(model)
    chosen = chosen_sites(sites, where, "attention")
    variant.forward(forward)
    if variant.inputs is not None:
        raise UnsupportedError(
            f"{variant.name}: it needs inputs beside q, k and v at each call, which the models of "
            "transformers do not give"
        )
    new = _attach(sites)
    try:
        shapes = dict.fromkeys(chosen, _ANY)
        if variant.parameters or variant.noise:
            shapes = _seen_shapes(model, chosen, example)
        made = {
            name: _made(variant, _heads_for(variant, shapes[name]), forward, options, owner)
            for name, owner in chosen.items()
        }
    except BaseException:
        for owner in new:
            _detach(owner)
        raise
    for name, owner in chosen.items():
        getattr(owner, ATTACHED).variant = made[name]


def _attach(sites: Mapping[str, Any]) -> list[nn.Module]:
    """Give every attention layer a site and our implementation; returns those that had none."""
    register()
    new = {name: owner for name, owner in sites.items() if not hasattr(owner, ATTACHED)}
    originals = {name: owner.config._attn_implementation for name, owner in new.items()}
    for name, original in originals.items():
        if original not in _KNOWN:
            raise UnsupportedError(
                f"{name} attends by {original!r}, which can't be put back beside other layers; "
                "call model.set_attn_implementation('sdpa') first"
            )
    for layer, (name, owner) in enumerate(sites.items()):
        if name in new:
            setattr(owner, ATTACHED, AttentionSite(originals[name], layer, len(sites)))
        _configure(owner, IMPLEMENTATION)
    return list(new.values())


def _detach(owner: Any) -> None:
    _configure(owner, getattr(owner, ATTACHED).original)
    delattr(owner, ATTACHED)


def _configure(owner: Any, implementation: str) -> None:
    """Set the implementation of a layer's configuration, which those that make its masks share.

    The public setter of transformers reaches every submodel, a convolutional backbone too.
    """
    owner.config._attn_implementation_internal = implementation


def _seen_shapes(
    model: nn.Module, chosen: Mapping[str, nn.Module], example: Mapping[str, Any] | None
) -> dict[str, Shape]:
    """The shapes at which the layers are called on the example, by their original functions."""
    sites = {name: getattr(owner, ATTACHED) for name, owner in chosen.items()}
    kept = {name: site.variant for name, site in sites.items()}
    seen: dict[str, Shape] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, inputs: seen.update({name: _shape_of(*inputs[1:4])})

    hooks = [site.register_forward_pre_hook(watch(name)) for name, site in sites.items()]
    for site in sites.values():
        site.variant = None
    try:
        run_once(model, example)
    finally:
        for hook, (name, site) in zip(hooks, sites.items(), strict=True):
            hook.remove()
            site.variant = kept[name]
    return {name: _reached(name, seen.get(name)) for name in sites}


def _shape_of(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Shape:
    (batch, heads, q_len, head_dim), (_, kv_heads, k_len, _) = q.shape, k.shape
    return Shape(batch, heads, kv_heads, q_len, k_len, head_dim, v.shape[3])


def _swap_activation(
    model: nn.Module,
    variant: Activation,
    forward: str,
    options: Mapping[str, Any] | None,
    where: Where | None,
    example: Mapping[str, Any] | None,
) -> None:
    if variant.gated:
        raise UnsupportedError(
            f"{variant.name}: a gated activation gives half the features that it gets, and the "
            "layer after it expects all"
        )
    found = {name: m for name, m in model.named_modules() if isinstance(m, ActivationSite)}
    originals = {name: site.original for name, site in found.items()}
    inner = tuple(f"{name}." for name in found)
    others = activation_sites(model).items()
    sites = originals | {name: m for name, m in others if not name.startswith(inner)}
    chosen = chosen_sites(sites, where, "activation")
    features = dict.fromkeys(chosen, 1)
    if variant.parameters or variant.noise:
        features = _seen_features(model, chosen, example)
    for name, original in chosen.items():
        made = _made(variant, features[name], forward, options, model)
        _put(model, name, ActivationSite(original, made))


def _seen_features(
    model: nn.Module, chosen: Mapping[str, nn.Module], example: Mapping[str, Any] | None
) -> dict[str, int]:
    """The sizes of the rows that the activations see on the example."""
    seen: dict[str, int] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda _, inputs: seen.update({name: inputs[0].shape[-1]})

    current = {name: model.get_submodule(name) for name in chosen}
    hooks = [m.register_forward_pre_hook(watch(name)) for name, m in current.items()]
    try:
        run_once(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _reached(name, seen.get(name)) for name in chosen}


def _swap_connection(
    model: Any,
    variant: Connection,
    forward: str,
    options: Mapping[str, Any] | None,
    where: Where | None,
) -> None:
    # Its base class is one of transformers.
    from bakeoff.suites.applications.connection import ConnectedLayer, connected_layers

    if variant.inputs is not None or takes(variant, "history"):
        raise UnsupportedError(
            f"{variant.name}: it needs what earlier layers gave, which a layer of transformers is "
            "not told"
        )
    layers = connected_layers(model)
    chosen = chosen_sites(layers, where, "connection")
    counts = [len(branches_of(layer)) for layer in layers.values()]
    place = 0
    for (name, layer), count in zip(layers.items(), counts, strict=True):
        if name in chosen:
            features = width_of(layer)
            made = [_made(variant, features, forward, options, layer) for _ in range(count)]
            _put(model, name, ConnectedLayer(layer, made, place, sum(counts)))
        place += count


def _replacing() -> tuple[type[nn.Module], ...]:
    """The modules that stand in place of others, the innermost first."""
    from bakeoff.suites.applications.connection import ConnectedLayer

    return ActivationSite, ConnectedLayer


Size = TypeVar("Size")


def _reached(name: str, size: Size | None) -> Size:
    if size is None:
        raise UsageError(
            f"{name} was not called on the example, so that its sizes are not known; give an "
            "example=… that reaches it, or leave it out (where=…)"
        )
    return size


def _heads_for(variant: Attention, shape: Shape) -> Shape:
    return shape if variant.grouped else replace(shape, kv_heads=shape.heads)


def _made(
    variant: Variant,
    shape: Shape | int,
    forward: str,
    options: Mapping[str, Any] | None,
    like: nn.Module,
) -> VariantModule:
    """A module of the variant, where and of the type of the weights beside it."""
    made = module(variant, shape, forward=forward, options=options)
    weight = next((p for p in like.parameters() if p.is_floating_point()), None)
    made.train(like.training)
    return made if weight is None else made.to(weight.device, weight.dtype)


def _put(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
