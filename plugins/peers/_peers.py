"""What the adapters share: a package that is looked for, and imported late."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bakeoff import Activation, Case, Forward, Metadata

__all__ = [
    "Peer",
    "activation",
    "attention_metadata",
    "found",
    "is_installed",
    "refuses",
    "remembered",
]

Function = Callable[..., torch.Tensor]


def is_installed(package: str) -> bool:
    """Whether a package could be imported; it is not."""
    return importlib.util.find_spec(package) is not None


def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`functools.cache`, but seen by Dynamo, which would trace the import behind that."""
    made: dict[tuple[Any, ...], Any] = {}

    def recall(*arguments: Any) -> Any:
        if arguments not in made:
            made[arguments] = make(*arguments)
        return made[arguments]

    return recall


@remembered
def found(module: str, name: str) -> Any:
    """An attribute of a module, imported at the first call."""
    return getattr(importlib.import_module(module), name)


def refuses(module: str, name: str) -> Callable[[Case], str | None]:
    """A forward's ``supports``: None where the installed version has this, else the reason."""

    def supports(case: Case) -> str | None:
        try:
            found(module, name)
        except Exception as error:  # whatever a broken installation raises
            return f"{module}.{name} of the installed version can't be used: {error}"
        return None

    return supports


@dataclass(frozen=True)
class Peer:
    """An activation of another package.

    Args:
        name: Without the prefix.
        title: The name in prose.
        formula: LaTeX.
        reference: The formula, in plain torch.
        call: The package's own.
        properties: What is declared, and measured.
    """

    name: str
    title: str
    formula: str
    reference: Function
    call: Function
    properties: dict[str, Any]


def activation(
    package: str, peer: Peer, supports: Callable[[Case], str | None] | None = None
) -> Activation:
    """The variant: our formula, and the package's function as a forward of its name."""
    return Activation(
        f"{package}_{peer.name}",
        forwards={"reference": peer.reference, package: Forward(peer.call, supports=supports)},
        metadata=Metadata(
            title=f"{peer.title} ({package})",
            summary=f"{peer.title}, as {package} computes it.",
            formula=peer.formula,
            strengths=(f"ready in {package}",),
            weaknesses=("needs a package beside torch" if package != "torch" else "seldom used",),
            use_when=f"To race what {package} has against the other variants.",
            tags=("hidden_layer", "peer"),
            properties={"elementwise": True, **peer.properties},
        ),
    )


def attention_metadata(package: str, title: str, formula: str, **more: Any) -> Metadata:
    """What all adapters of attention have in common."""
    return Metadata(
        title=f"{title} ({package})",
        summary=f"{title}, as {package} computes it.",
        formula=formula,
        strengths=(f"ready in {package}",),
        weaknesses=("needs a package beside torch",),
        use_when=f"To race what {package} has against the other variants.",
        tags=("soft", "self", "peer"),
        **more,
    )
