"""What stands beside the variants: floors that solve nothing, and a convolution.

Each is put together as a variant is, from the public classes, and stands in the same model; none
is in the catalog.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnsupportedError
from bakeoff.registry.masking import allowed_keys, masked_softmax
from bakeoff.registry.metadata import Metadata
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Attention
from bakeoff.suites.learning.parts import Part, Parts
from bakeoff.suites.learning.task import Task

__all__ = [
    "CEILINGS",
    "CHANCE",
    "CONVOLUTION",
    "LINEAR",
    "MEAN",
    "ROLES",
    "control_parts",
    "controls_of",
]

#: Names that no variant can have.
CHANCE, MEAN = "(chance)", "(uniform mean)"
LINEAR, CONVOLUTION = "(linear network)", "(convolution)"
#: What a control is there for: the convolution is no floor.
ROLES = {CHANCE: "floor", MEAN: "floor", LINEAR: "floor", CONVOLUTION: "control"}
#: What is known to solve the tasks of each kind.
CEILINGS = {"attention": "scaled_dot_product", "activation": "relu", "connection": "residual"}
#: Positions along one side that the convolution sees.
KERNEL = 3


def controls_of(task: Task, kind: str) -> tuple[str, ...]:
    """The controls that are measured beside the variants of a kind."""
    if kind != "attention":
        return (CHANCE, LINEAR)
    return (CHANCE, MEAN, LINEAR, *((CONVOLUTION,) if task.numeric else ()))


def control_parts(name: str, kind: str, usual: Parts, catalog: Catalog) -> Parts:
    """What stands in the places of a model that serves as a control.

    Args:
        name: One of those that :func:`controls_of` returns, but for chance, which has no model.
        kind: The kind of variant beside which it stands.
        usual: What stands there beside a variant.
        catalog: Where the identity comes from.
    """
    if name == MEAN:
        return usual.having(Part(_control("uniform_mean", uniform_mean)))
    if name == CONVOLUTION:
        return usual.having(Part(_control("convolution", convolution, kernel_weights)))
    linear = replace(usual, norm=False).having(Part(catalog["identity"]))
    if kind != "attention":
        return linear.having(Part(catalog["plain"]))
    return linear.having(Part(_control("learned_mean", learned_mean, mean_weights)))


def uniform_mean(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Every key that may be seen weighs the same: attention that looks at nothing.

    Example:
        >>> v = torch.tensor([[[[1.0], [3.0]]]])
        >>> uniform_mean(v, v, v, causal=True).flatten().tolist()
        [1.0, 2.0]
    """
    scores = q.new_zeros(*q.shape[:3], k.shape[2])
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def learned_mean(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    weights: torch.Tensor,  # (H, Nq, Nk)
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A learned matrix over positions, the same for all data: linear in the values."""
    allowed = allowed_keys(q, k, mask, causal)
    return (weights if allowed is None else weights.masked_fill(~allowed, 0.0)) @ v


def mean_weights(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Normal, so that the sum of Nk values of variance 1 has variance 1."""
    size = (shape.heads, shape.q_len, shape.k_len)
    return {"weights": nn.Parameter(torch.randn(size, generator=generator) / math.sqrt(size[2]))}


def convolution(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    kernel: torch.Tensor,  # (H·Dv, 1, 3, 3), of which a sequence uses the middle row
    grid: tuple[tuple[int, int], ...] | None = None,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """A convolution of the values over three neighbours, or 3 × 3 where they are an image."""
    if causal or mask is not None:
        raise UnsupportedError("the convolution sees both sides, and obeys no mask")
    ((height, width),) = grid or ((1, v.shape[2]),)
    image = v.transpose(2, 3).reshape(v.shape[0], -1, height, width)
    found = F.conv2d(image, kernel, padding=KERNEL // 2, groups=len(kernel))
    return found.reshape(*v.shape[:2], v.shape[3], -1).transpose(2, 3)


def kernel_weights(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Normal with variance one over the number of neighbours."""
    size = (shape.heads * shape.value_dim, 1, KERNEL, KERNEL)
    return {"kernel": nn.Parameter(torch.randn(size, generator=generator) / KERNEL)}


def _control(
    name: str,
    reference: Callable[..., torch.Tensor],
    parameters: Callable[..., Mapping[str, torch.Tensor]] | None = None,
) -> Attention:
    return Attention(
        name,
        forwards={"reference": reference},
        parameters=parameters,
        metadata=Metadata(
            title=name.replace("_", " ").capitalize(),
            summary="A control.",
            formula="",
            strengths=(),
            weaknesses=(),
            use_when="",
            tags=(),
            control=True,
        ),
    )
