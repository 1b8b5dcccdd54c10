"""torch.nn's activations that are no variant of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, hookimpl
from bakeoff.plugins.peers._peers import Peer, activation

PEERS = (
    Peer(
        "hardshrink",
        "Hard shrinkage",
        r"\phi(x) = x\,[|x| > 1/2]",
        lambda x: torch.where(x.abs() > 0.5, x, torch.zeros_like(x)),
        F.hardshrink,
        {"monotonic": True, "zero_centred": True, "range": (-math.inf, math.inf)},
    ),
    Peer(
        "softshrink",
        "Soft shrinkage",
        r"\phi(x) = \operatorname{sign}(x) \max(|x| - 1/2, 0)",
        lambda x: x.sign() * (x.abs() - 0.5).clamp(min=0),
        F.softshrink,
        {"monotonic": True, "smooth": False, "range": (-math.inf, math.inf)},
    ),
    Peer(
        "tanhshrink",
        "Tanh shrinkage",
        r"\phi(x) = x - \tanh x",
        lambda x: x - torch.tanh(x),
        F.tanhshrink,
        {"monotonic": True, "smooth": True, "range": (-math.inf, math.inf)},
    ),
    Peer(
        "logsigmoid",
        "Log-sigmoid",
        r"\phi(x) = \log \sigma(x)",
        lambda x: -torch.logaddexp(-x, torch.zeros_like(x)),
        F.logsigmoid,
        {"monotonic": True, "smooth": True, "range": (-math.inf, 0.0)},
    ),
    Peer(
        "softmin",
        "Softmin",
        r"\phi(x)_i = e^{-x_i} / \sum_j e^{-x_j}",
        lambda x: (-x).softmax(-1),
        lambda x: F.softmin(x, dim=-1),
        {"elementwise": False, "range": (0.0, 1.0)},
    ),
)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Those of torch.nn."""
    return [activation("torch", peer) for peer in PEERS]
