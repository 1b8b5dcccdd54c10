"""timm's activations (timm.layers.activations)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch

from bakeoff import Activation, hookimpl
from bakeoff.plugins.activations.hardswish import reference as hardswish
from bakeoff.plugins.activations.mish import reference as mish
from bakeoff.plugins.peers._peers import Peer, activation, found, is_installed, refuses

HOME = "timm.layers.activations"


def hard_mish(x: torch.Tensor) -> torch.Tensor:
    """x · min(2, max(0, x + 2)) / 2 (github.com/digantamisra98/H-Mish)."""
    return x * (x + 2).clamp(0, 2) / 2


def _call(name: str, x: torch.Tensor) -> torch.Tensor:
    """The package's own."""
    output: torch.Tensor = found(HOME, name)(x)
    return output


PEERS = (
    Peer(
        "hard_mish",
        "Hard Mish",
        r"\phi(x) = \tfrac{x}{2} \min(2, \max(0, x + 2))",
        hard_mish,
        partial(_call, "hard_mish"),
        {"monotonic": False, "range": (-0.5, math.inf)},
    ),
    Peer(
        "mish",
        "Mish",
        r"\phi(x) = x \tanh(\log(1 + e^x))",
        mish,
        partial(_call, "mish"),
        {"monotonic": False, "smooth": True},
    ),
    Peer(
        "hard_swish",
        "Hard Swish",
        r"\phi(x) = \tfrac{x}{6} \min(6, \max(0, x + 3))",
        hardswish,
        partial(_call, "hard_swish"),
        {"monotonic": False},
    ),
)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Those of timm, where it is installed."""
    if not is_installed("timm"):
        return []
    return [activation("timm", peer, refuses(HOME, peer.name)) for peer in PEERS]
