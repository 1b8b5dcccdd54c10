"""Where a model of transformers attends and activates, found without a list of models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from bakeoff.registry.errors import UsageError, shown, typed

__all__ = ["Where", "activation_sites", "attention_sites", "chosen_sites", "require_model"]

#: Which layers: a glob over the names of modules, or a predicate on a name.
Where = str | Callable[[str], bool]

#: The name under which the attention functions of transformers stand in a forward.
_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
#: Fields of a configuration that name the activation of its feed-forward layers. What a pooler uses
#: is another field, and stays; BERT's head for masked tokens uses the same.
_ACTIVATION_FIELDS = ("hidden_act", "activation_function", "hidden_activation")


def require_model(model: object) -> None:
    """Refuse what is no model of transformers.

    Raises:
        UsageError: Where transformers is missing, or the model is not one of its.
    """
    try:
        from transformers import PreTrainedModel
    except ImportError as error:
        raise UsageError(
            f"swapping needs transformers, which can't be imported ({error}); "
            "pip install 'bakeoff[transformers]'"
        ) from error
    if not isinstance(model, PreTrainedModel):
        raise UsageError(f"model is {typed(model)}, expected a transformers.PreTrainedModel")


def attention_sites(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose forward asks transformers for its attention function, by name."""
    found = {}
    for name, module in model.named_modules():
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        if code is not None and _INTERFACE in code.co_names:
            found[name] = module
    return found


def activation_sites(model: nn.Module) -> dict[str, nn.Module]:
    """The activations that the model's configurations name for feed-forward layers, by name.

    A submodel with a configuration of its own and without attention, as the convolutional backbone
    of a detector, keeps its own; the encoder of Deformable DETR shares that of its decoder.
    """
    from transformers import PreTrainedModel

    modules = list(model.named_modules(remove_duplicate=False))
    own: dict[str, Any] = {n: each for n, each in modules if isinstance(each, PreTrainedModel)}
    attending = {id(module.config) for module in own.values() if attention_sites(module)}
    found = {}
    for name, module in modules:
        owner = max((o for o in own if _is_within(name, o)), key=len)
        config = own[owner].config
        if id(config) in attending and type(module) in _activation_types(config):
            found[name] = module
    return found


def chosen_sites(
    sites: dict[str, nn.Module], where: Where | None, kind: str
) -> dict[str, nn.Module]:
    """The sites whose names ``where`` takes; all of them if None.

    Raises:
        UsageError: Where there is none, or ``where`` takes none.
    """
    if not sites:
        raise UsageError(
            f"the model has no {kind} that can be swapped: no module asks transformers for one"
        )
    if where is None:
        return sites
    if not isinstance(where, str) and not callable(where):
        raise UsageError(f"where is {typed(where)}, expected a glob or a predicate on names")
    takes = (lambda name: fnmatchcase(name, where)) if isinstance(where, str) else where
    found = {name: module for name, module in sites.items() if takes(name)}
    if not found:
        raise UsageError(f"where takes no {kind}; the model has {shown(list(sites), 300)}")
    return found


def _is_within(name: str, owner: str) -> bool:
    return not owner or name == owner or name.startswith(f"{owner}.")


def _activation_types(config: Any) -> tuple[type, ...]:
    return tuple(_types_of(config))


def _types_of(config: Any) -> Iterator[type]:
    """The classes of the activations that a configuration and those within it name."""
    from transformers.activations import ACT2FN

    for each in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        for field in _ACTIVATION_FIELDS:
            value = getattr(each, field, None)
            if isinstance(value, str) and value in ACT2FN:
                yield type(ACT2FN[value])
