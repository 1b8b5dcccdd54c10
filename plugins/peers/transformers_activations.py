"""transformers' activations, by their names in ``ACT2FN``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from bakeoff import Activation, Case, hookimpl
from bakeoff.plugins.activations.gelu import reference as gelu
from bakeoff.plugins.activations.gelu_tanh import reference as gelu_tanh
from bakeoff.plugins.activations.quick_gelu import reference as quick_gelu
from bakeoff.plugins.activations.squared_relu import reference as squared_relu
from bakeoff.plugins.peers._peers import Function, Peer, activation, found, is_installed, remembered


@remembered
def layer(name: str) -> Any:
    """The layer that transformers makes for a name."""
    return found("transformers.activations", "ACT2FN")[name]


def called(x: torch.Tensor, *, of: str) -> torch.Tensor:
    """transformers' own."""
    result: torch.Tensor = layer(of)(x)
    return result


def laplace(x: torch.Tensor) -> torch.Tensor:
    """½ (1 + erf((x − μ) / (σ√2))), μ = √½ and σ = √(1/4π) (Ma et al., 2022, equation 8)."""
    return 0.5 * torch.erfc((0.707107 - x) / (0.282095 * math.sqrt(2)))


def clipped_gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU, cut off at ±10 (Wu et al., 2020, section 5.2)."""
    return gelu(x).clamp(-10, 10)


def sqrt_softplus(x: torch.Tensor) -> torch.Tensor:
    """√log(1 + eˣ)."""
    return F.softplus(x).sqrt()


def _peer(name: str, title: str, formula: str, reference: Function, **properties: Any) -> Peer:
    return Peer(name, title, formula, reference, partial(called, of=name), properties)


_TANH = r"\phi(x) = \tfrac{x}{2}\left(1 + \tanh\sqrt{2/\pi}\,(x + 0.044715 x^3)\right)"
PEERS = (
    _peer("gelu_new", "GELU by tanh", _TANH, gelu_tanh, smooth=True),
    _peer("gelu_fast", "GELU by tanh, factored", _TANH, gelu_tanh, smooth=True),
    _peer("quick_gelu", "Quick GELU", r"\phi(x) = x\,\sigma(1.702 x)", quick_gelu, smooth=True),
    _peer("relu2", "Squared ReLU", r"\phi(x) = \max(0, x)^2", squared_relu, monotonic=True),
    _peer(
        "gelu_10",
        "Clipped GELU",
        r"\phi(x) = \min(10, \operatorname{GELU}(x))",
        clipped_gelu,
        monotonic=False,
    ),
    _peer(
        "laplace",
        "Laplace",
        r"\phi(x) = \tfrac{1}{2}\left(1 + \operatorname{erf}\frac{x - \mu}{\sigma\sqrt 2}\right)",
        laplace,
        monotonic=True,
        smooth=True,
        range=(0.0, 1.0),
    ),
    _peer(
        "sqrtsoftplus",
        "Root of softplus",
        r"\phi(x) = \sqrt{\log(1 + e^x)}",
        sqrt_softplus,
        monotonic=True,
        smooth=True,
        range=(0.0, math.inf),
    ),
)


def _refuses(case: Case, *, of: str) -> str | None:
    """None where the installed version has this activation, else the reason."""
    try:
        layer(of)
    except Exception as error:  # whatever a broken installation raises
        return f"transformers of the installed version has no {of} that can be used: {error}"
    return None


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Those of transformers, where it is installed."""
    if not is_installed("transformers"):
        return []
    return [activation("transformers", peer, partial(_refuses, of=peer.name)) for peer in PEERS]
