"""Right variants that look odd: activations and connections."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
import torch.utils.checkpoint

from planted.bases import (
    CENTRED,
    ELU,
    HALF,
    HIGHWAY,
    LOG_SOFTMAX,
    MISH,
    PRE_NORM,
    PRELU,
    RESIDUAL,
    REZERO,
    SILU,
    SMOOTH,
    SOFTMAX_FEATURES,
    SOFTPLUS,
    SQUARED_RELU,
    SWIGLU,
    SWISH,
    TANH,
    activation,
    connection,
    widen,
)
from planted.corpus import lone_right, right


def own_relu(x):
    return torch.where(x > 0, x, 0.1 * x)


@right(
    "a kink at zero, which it does not deny",
    of=activation(
        "leaky_base", own_relu, {"elementwise": True, "monotonic": True, "smooth": False}
    ),
)
def kink_admitted(x):
    return torch.maximum(x, 0.1 * x)


@lone_right(
    "a jump at one half",
    of=activation("step_base", F.relu, {"elementwise": True, "range": (-0.25, 1.25)}),
)
def jumps(x):
    return torch.sigmoid(x) + torch.where(x > 0.5, 0.25, -0.25)


@lone_right(
    "it oscillates",
    of=activation("sine_base", F.relu, {**SMOOTH, "range": (-1.0, 1.0), "zero_centred": True}),
)
def oscillates(x):
    return torch.sin(x)


@lone_right(
    "it is the same everywhere beyond ±1",
    of=activation(
        "clip_base", F.relu, {"elementwise": True, "monotonic": True, "range": (-1.0, 1.0)}
    ),
)
def flat_outside(x):
    return x.clamp(-1, 1)


@right("by the tanh of x / 2", of=SILU)
def silu_by_tanh(x):
    dtype, (x,) = x.dtype, widen(x)
    return (x * 0.5 * (1 + torch.tanh(x * 0.5))).to(dtype)


@right("by a stable logarithm", of=SOFTPLUS)
def softplus_by_log1p(x):
    dtype, (x,) = x.dtype, widen(x)
    return torch.logaddexp(x, torch.zeros_like(x)).to(dtype)


@right("by torch", of=MISH)
def mish_by_torch(x):
    return F.mish(x.float()).to(x.dtype) if x.dtype in HALF else F.mish(x)


@right("of float64 exponents, whatever the input", of=SOFTMAX_FEATURES)
def softmax_in_float64(x):
    wide = x.double()
    weights = (wide - wide.detach().amax(-1, keepdim=True)).exp()
    return (weights / weights.sum(-1, keepdim=True)).to(x.dtype)


@right("as a logarithm of sums", of=LOG_SOFTMAX)
def log_softmax_by_sums(x):
    dtype, (x,) = x.dtype, widen(x)
    return (x - torch.logsumexp(x, -1, keepdim=True)).to(dtype)


class _CubedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.relu(x) * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * F.relu(x)


@right("a backward of its own, differentiable again", of=SQUARED_RELU)
def squared_relu_own_backward(x):
    return _CubedRelu.apply(x)


@right("a slope for each feature, by a product", of=PRELU)
def prelu_by_parts(x, *, slope):
    return F.relu(x) - slope * F.relu(-x)


@right("the option in place of expm1's factor", of=ELU, at={"options": {"alpha": 1.7}})
def elu_by_expm1(x, *, alpha):
    return torch.where(x > 0, x, alpha * x.clamp(max=0).expm1())


@right("gated by halves that are views", of=SWIGLU)
def swiglu_by_views(x):
    half = x.shape[-1] // 2
    value, gate = widen(x[..., :half], x[..., half:])
    return (value * gate * torch.sigmoid(gate)).to(x.dtype)


@right(
    "a factor that learns and may be of any sign",
    of=SWISH,
    at={"tensors": {"beta": torch.tensor([-0.7])}},
)
def swish_by_tanh(x, *, beta):
    wide_x, wide_beta = widen(x, beta)
    return (wide_x * (1 + torch.tanh(wide_beta * wide_x / 2)) / 2).to(x.dtype)


@right("by torch's layer norm", of=CENTRED)
def centred_by_torch(x, *, eps):
    return F.layer_norm(x, x.shape[-1:], eps=eps)


@right("as a sigmoid, stretched", of=TANH)
def tanh_by_sigmoid(x):
    dtype, (x,) = x.dtype, widen(x)
    return torch.where(x.abs() < 1, torch.tanh(x), 2 * torch.sigmoid(2 * x) - 1).to(dtype)


# Connections


@right("in one pass", of=RESIDUAL)
def residual_in_place_of_its_own(x, branch):
    output = branch(x)
    return output.add(x)


@right(
    "the branch before the factor that begins at zero",
    of=REZERO,
    at={"tensors": {"alpha": torch.tensor([0.4])}},
)
def rezero_in_one_pass(x, branch, *, alpha):
    return torch.addcmul(x, alpha, branch(x))


@right("between x and the branch, by the gate", of=HIGHWAY)
def highway_by_lerp(x, branch, *, weight, bias):
    gate = torch.sigmoid(F.linear(x, weight, bias))
    return torch.lerp(x, branch(x), gate)


@right("the branch sees what is normalised", of=PRE_NORM)
def pre_norm_by_torch(x, branch, *, eps):
    return x + branch(F.layer_norm(x, x.shape[-1:], eps=eps))


def coin(features, generator, survival):
    return {"coin": torch.rand(1, generator=generator)}


def reference_coin(x, branch, *, coin, survival):
    if coin is None:
        return x + survival * branch(x)
    return x + (coin < survival).to(x.dtype) * branch(x)


COIN = connection("coin_base", reference_coin, True, options={"survival": 0.7}, noise=coin)


@right("an option that acts through a coin", of=COIN, properties={"stochastic": True})
def coin_thrown(x, branch, *, coin, survival):
    output = branch(x)
    kept = survival if coin is None else (coin < survival).to(x.dtype)
    return torch.add(x, kept * output)


@lone_right(
    "no identity path: the branch alone, normalised",
    of=connection("alone_base", lambda x, branch: x, False),
)
def branch_alone(x, branch):
    return F.layer_norm(branch(x), x.shape[-1:])


@lone_right(
    "the branch is scaled down by the depth",
    of=connection("scaled_base", lambda x, branch: x, True),
)
def scaled_by_depth(x, branch, *, depth=4):
    return x + branch(x) / math.sqrt(2 * depth)
