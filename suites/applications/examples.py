"""One call of a model, from which a variant with parameters learns its sizes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bakeoff.registry.errors import BakeoffError, UsageError, brief

__all__ = ["run_once"]


def run_once(model: nn.Module, example: Mapping[str, Any] | None) -> None:
    """Call the model once; neither its modes nor the random numbers after it change.

    Args:
        model: The model.
        example: The arguments of the call; None makes some up from its configuration.

    Raises:
        UsageError: Where it can't run them.
    """
    given = _made_up(model) if example is None else example
    devices = {p.device for p in model.parameters() if p.device.type != "cpu"}
    with torch.no_grad(), _evaluating(model), torch.random.fork_rng(devices):
        try:
            model(**given)
        except BakeoffError:
            raise
        except Exception as error:
            source = "a made-up call" if example is None else "the example"
            raise UsageError(
                f"{type(model).__name__} can't run {source} ({brief(error)}), from which a variant "
                "with parameters learns its sizes; give the arguments of a call as example=…"
            ) from error


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {each: each.training for each in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode


def _made_up(model: Any) -> dict[str, torch.Tensor]:
    """Tokens, an image, or both, as the model's forward names them."""
    names = inspect.signature(model.forward).parameters
    configs = (model.config, *(getattr(model.config, n, None) for n in model.config.sub_configs))
    made: dict[str, torch.Tensor] = {}
    if "input_ids" in names:
        made["input_ids"] = torch.ones(1, 8, dtype=torch.long, device=model.device)
    if "pixel_values" in names:
        size = next((c.image_size for c in configs if hasattr(c, "image_size")), 64)
        height, width = (size, size) if isinstance(size, int) else size
        channels = next((c.num_channels for c in configs if hasattr(c, "num_channels")), 3)
        made["pixel_values"] = torch.zeros(
            1, channels, height, width, device=model.device, dtype=model.dtype
        )
    return made
