"""What an application is: a real model, an objective, and data with a known floor."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from bakeoff.registry.errors import UnknownNameError, did_you_mean
from bakeoff.registry.shapes import Shape
from bakeoff.suites.applications import models

if TYPE_CHECKING:
    import torch
    from torch import nn

    Batch = Mapping[str, Any]

__all__ = ["Application", "application", "applications"]


def _loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """What the model itself returns, as those of transformers do when they get labels."""
    loss: torch.Tensor = model(**batch).loss
    return loss


@dataclass(frozen=True, kw_only=True)
class Application:
    """A model with a training objective, as a module of ``models/`` defines it.

    Sizes are told here so that a run can be planned without transformers.

    Args:
        name: lower_snake_case.
        title: The model and its task.
        pattern: The pattern of most of its attentions.
        shape: The sizes of most of its attentions, in one training step.
        features: The sizes of the rows that its activations see.
        build: Makes the model, with weights from torch's global generator.
        batch: ``(generator, size) -> arguments of the model``, labels among them.
        test_batch: The same, of what is never trained on; None where ``batch`` draws without end.
        seen: The names of the arguments that are data; the others are told about them.
        floor: The least loss that any model can expect, in nats where the loss is.
        batch_size: Examples in one training step.
        items: Tokens or images in one training step.
        unit: What they are.
        steps: Training steps at ``effort`` 1.
        rate: The learning rate.
        loss: ``(model, batch) -> loss``.
        scores: ``(model, batch) -> numbers`` beside the loss, comparable between models.
        needs: Packages beside torch, with the extra that brings them.
        attends: Whether it has attentions that can be swapped, and activations beside them.
    """

    name: str
    title: str
    pattern: str
    shape: Shape
    features: int
    build: Callable[[], nn.Module]
    batch: Callable[[torch.Generator, int], Batch]
    test_batch: Callable[[torch.Generator, int], Batch] | None = None
    seen: tuple[str, ...]
    floor: float
    batch_size: int
    items: int
    unit: str
    steps: int
    rate: float = 3e-3
    loss: Callable[[nn.Module, Batch], torch.Tensor] = _loss
    scores: Callable[[nn.Module, Batch], Mapping[str, float]] | None = None
    needs: Mapping[str, str] = field(default_factory=lambda: {"transformers": "transformers"})
    attends: bool = True

    def missing(self) -> str | None:
        """What to install before it can be built; None where all is there."""
        from importlib.util import find_spec

        extras = {extra: None for name, extra in self.needs.items() if find_spec(name) is None}
        return f"pip install 'bakeoff[{','.join(extras)}]'" if extras else None


@cache
def applications() -> Mapping[str, Application]:
    """Every application, by name."""
    names = [info.name for info in pkgutil.iter_modules(models.__path__)]
    found = [importlib.import_module(f"{models.__name__}.{name}").APPLICATION for name in names]
    return {each.name: each for each in found}


def application(name: str) -> Application:
    """The application called ``name``.

    Raises:
        UnknownNameError: Where there is none.
    """
    found = applications()
    if name not in found:
        raise UnknownNameError(f"no model is called {name!r}; {did_you_mean(name, found)}")
    return found[name]
