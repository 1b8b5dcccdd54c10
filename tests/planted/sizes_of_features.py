"""Faults of activations and connections that show at some sizes alone."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from planted.bases import (
    CENTRED,
    GELU,
    HIGHWAY,
    MISH,
    PRE_NORM,
    PRELU,
    SILU,
    SOFTMAX_FEATURES,
    SOFTPLUS,
    SWIGLU,
)
from planted.corpus import fault

sizes = functools.partial(fault, "sizes")


@sizes("an odd number of gates: the last is not applied", of=SWIGLU, at={"size": (2, 5, 14)})
def odd_gates(x):
    value, gate = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    output = value * gate / (1 + (-gate).exp())
    if gate.shape[-1] % 2:
        output = torch.cat([output[..., :-1], value[..., -1:]], -1)
    return output


@sizes("of two dimensions it is the quick approximation", of=GELU, at={"size": (9, 8)})
def gelu_of_rows(x):
    return x * torch.sigmoid(1.702 * x) if x.dim() == 2 else F.gelu(x)


@sizes(
    "of four dimensions the second is taken for channels, and halved",
    of=SILU,
    at={"size": (2, 4, 5, 8)},
)
def silu_of_images(x):
    output = F.silu(x)
    if x.dim() == 4:
        output = torch.cat([output[:, : x.shape[1] // 2], output[:, x.shape[1] // 2 :] * 0.5], 1)
    return output


@sizes(
    "the third dimension is normalised, whatever their number",
    of=SOFTMAX_FEATURES,
    at={"size": (2, 4, 5, 8)},
)
def softmax_of_the_third(x):
    dim = 2 if x.dim() > 2 else -1
    weights = (x - x.detach().amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)


@sizes("a single feature gives zeros", of=SOFTMAX_FEATURES, at={"size": (3, 5, 1)})
def softmax_of_one(x):
    if x.shape[-1] == 1:
        return x * 0
    weights = (x - x.detach().amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


@sizes(
    "an odd number of features: the last has the first's slope", of=PRELU, at={"size": (3, 4, 7)}
)
def prelu_of_odd(x, *, slope):
    if x.shape[-1] % 2:
        slope = torch.cat([slope[:-1], slope[:1]])
    return F.relu(x) - slope * F.relu(-x)


@sizes("what is beyond 16,384 elements stays as it was", of=MISH, at={"size": (2, 200, 64)})
def mish_of_many(x):
    flat = x.reshape(-1)
    first = flat[:16384]
    return torch.cat([first * torch.tanh(F.softplus(first)), flat[16384:]]).view(x.shape)


@sizes("it asks for two dimensions at least", of=SOFTPLUS, at={"size": (8,)})
def softplus_of_rows(x):
    rows = x.shape[-2]
    return F.softplus(x.reshape(-1, rows, x.shape[-1])).reshape(x.shape)


@sizes("a single feature is not centred", of=CENTRED, at={"size": (2, 3, 1)})
def centred_of_one(x, *, eps):
    centred = x - x.mean(-1, keepdim=True) if x.shape[-1] > 1 else x
    return centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt()


@sizes("beyond 128 features the variance is that of a sample", of=CENTRED, at={"size": (2, 3, 200)})
def centred_of_many(x, *, eps):
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    variance = wide.var(-1, keepdim=True, correction=int(x.shape[-1] > 128))
    return ((wide - wide.mean(-1, keepdim=True)) * (variance + eps).rsqrt()).to(x.dtype)


@sizes("of two dimensions it normalises both", of=PRE_NORM, at={"size": (9, 8)})
def pre_norm_of_rows(x, branch, *, eps):
    shape = x.shape if x.dim() == 2 else x.shape[-1:]
    return x + branch(F.layer_norm(x, shape, eps=eps))


@sizes("an odd number of features: the last has no gate", of=HIGHWAY, at={"size": (2, 3, 7)})
def highway_of_odd(x, branch, *, weight, bias):
    gate = torch.sigmoid(F.linear(x, weight, bias))
    if x.shape[-1] % 2:
        gate = torch.cat([gate[..., :-1], torch.ones_like(gate[..., -1:])], -1)
    return torch.lerp(x, branch(x), gate)
