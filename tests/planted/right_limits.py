"""Right variants that look odd: by what they say that they can't do, and by their options."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torch.utils.checkpoint

from bakeoff import Identity, UnsupportedError, allowed_keys, masked_softmax
from planted.bases import (
    ALIBI,
    DROPOUT,
    GELU,
    SOFTMAX,
    activation,
    attention,
    distances,
    exact,
    exact_by_blocks,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import lone_right, right

SOFT = {"row_stochastic": True, "stochastic": False, "differentiable": True}


def float32_alone(case):
    return None if case.dtype == "float32" else f"float32 only, not {case.dtype}"


@right("float32 alone, as it says", of=SOFTMAX, at={"dtype": torch.float32}, supports=float32_alone)
def refuses_dtypes(q, k, v, *, mask=None, causal=False, scale=None):
    if q.dtype != torch.float32:
        raise UnsupportedError("float32 only")
    return exact(q, k, v, mask, causal, scale)


def even_and_small(case):
    dim = case.attention_shape.head_dim
    return None if dim % 2 == 0 and dim <= 128 else f"an even head_dim up to 128, not {dim}"


@right("an even head_dim up to 128, as it says", of=SOFTMAX, supports=even_and_small)
def refuses_odd_head_dim(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[3] % 2 or q.shape[3] > 128:
        raise UnsupportedError("an even head_dim up to 128")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    halves = (x.unflatten(3, (2, -1)) for x in widen(q, k))
    first, second = (sum_of_halves for sum_of_halves in halves)
    scores = torch.einsum("bhiad,bhjad->bhij", first, second) * scale
    weights = weights_of(scores, visible_pairs(q, k, mask, causal))
    return (weights @ widen(v)[0]).to(q.dtype)


def cpu_alone(case):
    return None if case.device == "cpu" else "it runs on the CPU"


@right("the CPU alone, as it says", of=GELU, supports=cpu_alone)
def refuses_devices(x):
    return x * torch.special.ndtr(x)


@right("no mask, as it says", of=SOFTMAX, masks="none")
def without_masks(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None:
        raise UnsupportedError("no mask")
    return exact_by_blocks(q, k, v, None, causal, scale)


@right("masks over keys alone, as it says", of=SOFTMAX, at={"mask": "keys"}, masks="keys")
def masks_over_keys(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() > 1 and mask.shape[-2] > 1:
        raise UnsupportedError("masks over keys")
    return exact(q, k, v, mask, causal, scale)


@right("no backward, as it says", of=SOFTMAX, backward=False)
def without_backward(q, k, v, *, mask=None, causal=False, scale=None):
    with torch.no_grad():
        return exact(q, k, v, mask, causal, scale)


def self_alone(case):
    shape = case.attention_shape
    return None if shape.q_len == shape.k_len else "as many queries as keys"


@right("as many queries as keys, as it says", of=ALIBI, supports=self_alone)
def refuses_cross(q, k, v, *, slopes, mask=None, causal=False, scale=None):
    if q.shape[2] != k.shape[2]:
        raise UnsupportedError("as many queries as keys")
    return exact(q, k, v, mask, causal, scale, -slopes[:, None, None] * distances(q, k))


def pair_flops(case):
    shape = case.attention_shape
    products = 2.0 * (shape.head_dim + shape.value_dim)
    return products * shape.batch * shape.heads * case.visible_pairs


@right(
    "FLOPs, memory and complexity as they are",
    of=SOFTMAX,
    flops=pair_flops,
    complexity="N^2",
    memory="N^2",
)
def costs_declared(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


# Options


def reference_spread(x, *, powers, mode, bias):
    total = torch.zeros_like(x)
    for power in powers:
        total = total + (x.abs() + 1) ** power
    total = total / len(powers) if mode == "mean" else total
    return total if bias is None else total + bias


SPREAD = activation(
    "spread_base",
    reference_spread,
    {"elementwise": True},
    options={"powers": (0.5, 1.5), "mode": "mean", "bias": None},
)


@right("options that are a tuple, a string and None, all of which count", of=SPREAD)
def options_of_all_types(x, *, powers, mode, bias):
    total = torch.stack([(x.abs() + 1).pow(power) for power in powers]).sum(0)
    if mode == "mean":
        total = total / len(powers)
    return total + (0.0 if bias is None else bias)


@lone_right(
    "an option that is a string, of which one value is named by an identity",
    of=activation(
        "either_base",
        F.relu,
        {"elementwise": True, "monotonic": True},
        options={"side": "right"},
        identities=(
            Identity(
                "from the left it is min(x, 0)",
                options=lambda features: {"side": "left"},
                equals=lambda x: x.clamp(max=0),
                unless=lambda features: {"side": "right"},
            ),
        ),
    ),
)
def option_of_text(x, *, side):
    return F.relu(x) if side == "right" else -F.relu(-x)


@right("an option that acts through noise alone", of=DROPOUT)
def option_through_noise(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    return ((weights if keep is None else weights * keep) @ wide_v).to(q.dtype)


def reference_sharp(q, k, v, *, sharpen, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale * (2.0 if sharpen else 1.0)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


@right(
    "an option that is a flag",
    of=attention("sharp_base", reference_sharp, SOFT, options={"sharpen": False}),
    at={"options": {"sharpen": True}},
)
def option_of_a_flag(q, k, v, *, sharpen, mask=None, causal=False, scale=None):
    return exact(q + q if sharpen else q, k, v, mask, causal, scale)


def reference_dilated(q, k, v, *, dilations, mask=None, causal=False, scale=None):
    far = distances(q, k)
    seen = torch.zeros_like(far, dtype=torch.bool)
    for dilation in dilations:
        seen = seen | ((far % dilation == 0) & (far <= 4 * dilation))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    seen = seen if mask is None else seen & mask
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, seen, causal)) @ v


@right(
    "a tuple of dilations, most keys hidden",
    of=attention(
        "dilated_base",
        reference_dilated,
        SOFT,
        tags=("soft", "sparse", "self"),
        options={"dilations": (1, 3)},
    ),
    at={"q_len": 30},
)
def option_of_a_tuple(q, k, v, *, dilations, mask=None, causal=False, scale=None):
    far = distances(q, k)
    seen = torch.stack([(far % d == 0) & (far <= 4 * d) for d in dilations]).any(0)
    return exact(q, k, v, seen if mask is None else seen & mask, causal, scale)
