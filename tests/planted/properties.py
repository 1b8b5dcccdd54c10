"""Properties that are declared and do not hold, of variants that have a reference alone."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    CENTRED,
    GELU,
    RESIDUAL,
    SOFTMAX,
    SOFTPLUS,
    TANH,
    activation,
    scores_of,
    visible_pairs,
)
from planted.corpus import lone_fault
from planted.witness import gradient_differs

lone = functools.partial(lone_fault, "lone references")
FREE = {"stochastic": False, "differentiable": True}


def jump_in_slope(place: float):
    """A witness: the slopes on both sides of ``place`` differ."""

    def jumps(variant: Variant) -> bool:
        x = torch.tensor([place - 1e-6, place + 1e-6], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(variant.forward("reference").fn(x).sum(), x)
        return bool((slope[0] - slope[1]).abs() > 1e-3)

    return jumps


def values_at(*places: float):
    x = torch.tensor(places, dtype=torch.float64)
    return lambda variant: variant.forward("reference").fn(x)


@lone("smooth as declared, but for a kink at 0", of=GELU, witness=jump_in_slope(0.0))
def kink_at_zero(x):
    return torch.where(x > 0, x, 0.97 * x)


@lone("smooth as declared, but for a kink at 3", of=GELU, witness=jump_in_slope(3.0))
def kink_at_three(x):
    return x * (x + 3).clamp(0, 6) / 6


@lone("smooth as declared, but for a kink at -7.5", of=GELU, witness=jump_in_slope(-7.5))
def kink_far_left(x):
    return F.softplus(x) + 0.1 * F.relu(-7.5 - x)


@lone(
    "the range is declared positive, and is left a little",
    of=SOFTPLUS,
    properties={"range": (0.0, float("inf"))},
    witness=lambda variant: bool(values_at(-8.0)(variant) < 0),
)
def below_its_range(x):
    return F.softplus(x) - 1e-3 * torch.sigmoid(-x)


@lone(
    "the range (-1, 1) is left beyond 20",
    of=TANH,
    properties={"monotonic": True},
    witness=lambda variant: bool(values_at(40.0)(variant) > 1),
)
def above_its_range_far_out(x):
    return torch.tanh(x) + 0.01 * torch.tanh(F.relu(x.abs() - 20)) * x.sign()


@lone(
    "monotonic as declared, but for a dip between -4 and -2",
    of=SOFTPLUS,
    witness=lambda variant: bool(values_at(-4.0)(variant) > values_at(-3.0)(variant)),
)
def dips(x):
    return F.softplus(x) - 0.06 * (-(x + 3).square() * 4).exp()


@lone(
    "monotonic as declared, but beyond 30 it falls",
    of=TANH,
    witness=lambda variant: bool(values_at(60.0)(variant) < values_at(10.0)(variant)),
)
def falls_far_out(x):
    return torch.tanh(x) * (1 - 0.1 * torch.sigmoid(x.abs() - 40))


@lone("elementwise as declared, but for a thousandth of the mean", of=TANH)
def not_elementwise(x):
    return torch.tanh(x + 1e-3 * x.mean(-1, keepdim=True))


@lone("elementwise as declared, but beyond 100 features", of=TANH, at={"size": (2, 3, 130)})
def not_elementwise_when_wide(x):
    return torch.tanh(x + 0.1 * x.roll(1, -1)) if x.shape[-1] > 100 else torch.tanh(x)


@lone("features of other rows are mixed in", of=CENTRED)
def mixes_rows(x, *, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((-1, -2), keepdim=True) + eps)


@lone(
    "declared to be centred at zero, and has a mean of 0.03",
    of=TANH,
    properties={"zero_centred": True},
    witness=lambda variant: bool(values_at(0.0)(variant) > 0.01),
)
def off_centre(x):
    return torch.tanh(x + 0.05)


@lone(
    "NaN gradients at large values that float64 holds",
    of=GELU,
    witness=lambda variant: not bool(_slope_at(variant, 100.0).isfinite()),
)
def mish_by_its_formula(x):
    return x * torch.tanh(torch.log(1 + torch.exp(x)))


def _slope_at(variant: Variant, place: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.tensor([place], dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(variant.forward("reference").fn(x).sum(), x)
    return slope


@lone(
    "log(1 + eˣ) overflows in float32 and not in float64",
    of=SOFTPLUS,
    at={"mean": 200.0, "dtype": torch.float32},
)
def softplus_by_its_formula(x):
    return torch.log(1 + torch.exp(x))


@lone(
    "a power that overflows in float32 alone",
    of=activation(
        "rational_base", lambda x: 1 / (1 + x.double() ** -10).to(x.dtype), {"elementwise": True}
    ),
    at={"mean": 2e4, "dtype": torch.float32},
)
def power_overflows(x):
    return x**10 / (1 + x**10)


@lone(
    "a root whose gradient at zero is NaN",
    of=TANH,
    properties={"range": (-1.0, 1.0)},
    witness=lambda variant: not bool(_slope_at(variant, 0.0, torch.float64).isfinite()),
)
def root_at_zero(x):
    return x / (1 + (x * x).sqrt())


@lone(
    "differentiable as declared, but a part is detached",
    of=SOFTMAX,
    witness=gradient_differs(forward="reference", truth=SOFTMAX),
)
def detached_sum(q, k, v, *, mask=None, causal=False, scale=None):
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    largest = scores.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = (scores - largest).exp()
    total = weights.sum(-1, keepdim=True).detach()
    return weights / total.masked_fill(total == 0, 1.0) @ v


@lone("identity path as declared, but it keeps 99.9%", of=RESIDUAL)
def not_quite_identity(x, branch):
    return 0.999 * x + branch(x)


@lone("identity path as declared, but the sum is normalised", of=RESIDUAL)
def normalised_sum(x, branch):
    return F.layer_norm(x + branch(x), x.shape[-1:])


@lone(
    "identity path as declared, but beyond three dimensions", of=RESIDUAL, at={"size": (2, 3, 4, 8)}
)
def no_path_of_images(x, branch):
    return (x if x.dim() < 4 else 0.5 * x) + branch(x)
