"""Attention under a claim: its arguments for a seed, what it sees, and what its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bakeoff.registry.binding import resolve_options
from bakeoff.registry.shapes import Case, Shape
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.tensors import Arguments, arguments_for

__all__ = ["attention_case", "drawn", "influence", "output", "shape_of", "weights_of"]

#: Added to the seed of a variant's parameters for that of the data.
OTHER = 1_000_003


def shape_of(n: int, dim: int, *, heads: int = 1, grid: tuple[int, int] | None = None) -> Shape:
    """One sequence of n places that attends to itself, or a grid of them."""
    return Shape(1, heads, heads, n, n, dim, dim, (grid,) if grid else None)


def attention_case(
    experiment: Experiment,
    role: str,
    shape: Shape,
    *,
    pattern: str = "self",
    options: Mapping[str, Any] | None = None,
    dtype: str = "float64",
    **more: Any,
) -> Case:
    """The case of a role; an option that its variant has not is an error, as everywhere."""
    variant = experiment.variant(role)
    return Case(
        kind=variant.kind,
        shape=shape,
        pattern=pattern,
        options=resolve_options(variant, options),
        dtype=dtype,
        device=experiment.device,
        seed=experiment.seed,
        **more,
    )


def drawn(
    experiment: Experiment, role: str, shape: Shape, *, sharpness: float = 1.0, **more: Any
) -> Arguments:
    """All arguments of a call: q, k and v are the same for every role.

    Args:
        experiment: The seed.
        role: Whose parameters and inputs are drawn beside.
        shape: The sizes.
        sharpness: What q is multiplied with: the larger, the sharper is a softmax of its products.
        more: As :func:`attention_case`.
    """
    variant, case = experiment.variant(role), attention_case(experiment, role, shape, **more)
    # Another seed, since a variant's parameters and the data of one seed are not independent.
    data = dict(arguments_for(variant, replace(case, seed=OTHER + case.seed)).data)
    data["q"] = sharpness * data["q"]
    return replace(arguments_for(variant, case), data=data)


def output(
    experiment: Experiment, role: str, arguments: Arguments, forward: str = "reference"
) -> torch.Tensor:
    """What the role's forward returns, without a graph."""
    with torch.no_grad():
        return arguments.call(experiment.variant(role).forward(forward).fn)


def influence(
    experiment: Experiment,
    role: str,
    arguments: Arguments,
    of: tuple[str, ...] = ("q", "k", "v"),
) -> torch.Tensor:
    """(N, N): how far output i moves with what place j brings, by the Jacobian of the reference.

    The root of the sum of squares of ∂o_i/∂q_j, ∂o_i/∂k_j and ∂o_i/∂v_j, or of those that are
    named, over heads and features.
    """
    leaves = arguments.requiring_grad()
    out = leaves.call(experiment.variant(role).forward("reference").fn)  # (B, H, N, Dv)
    rows = out.transpose(0, 2).flatten(1)  # (N, H·B·Dv)
    data = [leaves.data[name] for name in of]
    one_each = torch.eye(rows.numel(), dtype=rows.dtype, device=rows.device)
    slopes = torch.autograd.grad(
        rows, data, one_each.view(-1, *rows.shape), allow_unused=True, is_grads_batched=True
    )
    squares = rows.new_zeros(rows.numel(), data[0].shape[2])
    for slope in slopes:
        if slope is not None:  # (N·H·B·Dv, B, H, N, D)
            squares = squares + slope.square().sum((1, 2, 4))
    return squares.view(*rows.shape, -1).sum(1).sqrt()


def weights_of(experiment: Experiment, role: str, arguments: Arguments) -> torch.Tensor:
    """The weights (B, H, Nq, Nk): what comes out where the values are unit vectors."""
    v = arguments.data["v"]
    eye = torch.eye(v.shape[2], dtype=v.dtype, device=v.device).expand(*v.shape[:3], -1)
    changed = replace(arguments, data={**arguments.data, "v": eye})
    return output(experiment, role, changed)
