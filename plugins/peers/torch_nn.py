"""torch.nn's activations that are no variant of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F

from bakeoff import Activation, hookimpl
from bakeoff.plugins.peers._peers import Peer, activation


def hardshrink(x: torch.Tensor) -> torch.Tensor:
    """x, but zero within 1/2 of zero."""
    return torch.where(x.abs() <= 0.5, torch.zeros_like(x), x)


def softshrink(x: torch.Tensor) -> torch.Tensor:
    """x, 1/2 nearer to zero, and zero within."""
    return x.sign() * (x.abs() - 0.5).clamp(min=0)


def tanhshrink(x: torch.Tensor) -> torch.Tensor:
    """x − tanh x."""
    return x - torch.tanh(x)


def logsigmoid(x: torch.Tensor) -> torch.Tensor:
    """log σ(x), which is −log(1 + e⁻ˣ)."""
    return -torch.logaddexp(-x, torch.zeros_like(x))


def softmin(x: torch.Tensor) -> torch.Tensor:
    """The softmax of −x over a row."""
    return (-x).softmax(-1)


PEERS = (
    Peer(
        "hardshrink",
        "Hard shrinkage",
        r"\phi(x) = x\,[|x| > 1/2]",
        hardshrink,
        F.hardshrink,
        {"monotonic": True, "zero_centred": True, "range": (-math.inf, math.inf)},
    ),
    Peer(
        "softshrink",
        "Soft shrinkage",
        r"\phi(x) = \operatorname{sign}(x) \max(|x| - 1/2, 0)",
        softshrink,
        F.softshrink,
        {"monotonic": True, "smooth": False, "range": (-math.inf, math.inf)},
    ),
    Peer(
        "tanhshrink",
        "Tanh shrinkage",
        r"\phi(x) = x - \tanh x",
        tanhshrink,
        F.tanhshrink,
        {"monotonic": True, "smooth": True, "range": (-math.inf, math.inf)},
    ),
    Peer(
        "logsigmoid",
        "Log-sigmoid",
        r"\phi(x) = \log \sigma(x)",
        logsigmoid,
        F.logsigmoid,
        {"monotonic": True, "smooth": True, "range": (-math.inf, 0.0)},
    ),
    Peer(
        "softmin",
        "Softmin",
        r"\phi(x)_i = e^{-x_i} / \sum_j e^{-x_j}",
        softmin,
        partial(F.softmin, dim=-1),
        {"elementwise": False, "range": (0.0, 1.0)},
    ),
)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Those of torch.nn."""
    return [activation("torch", peer) for peer in PEERS]
