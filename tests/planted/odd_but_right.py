"""Right variants that look odd: a certificate must not accuse them."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

from bakeoff import Identity, UnsupportedError, allowed_keys, masked_softmax
from planted.bases import (
    ALIBI,
    CENTRED,
    DROPOUT,
    ELU,
    GATED,
    GELU,
    GRID,
    GROUPED,
    HALF,
    HIGHWAY,
    KERNEL,
    KEY_BIAS,
    LOG_SOFTMAX,
    MISH,
    PRE_NORM,
    PRELU,
    RESIDUAL,
    REZERO,
    SIGMOID,
    SILU,
    SMOOTH,
    SOFTMAX,
    SOFTMAX_FEATURES,
    SOFTPLUS,
    SQUARED_RELU,
    SWIGLU,
    SWISH,
    TANH,
    TEMPERATURE,
    WINDOW,
    activation,
    attention,
    connection,
    distances,
    exact,
    exact_by_blocks,
    exact_by_sdpa,
    repeated,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import lone_right, right

SOFT = {"row_stochastic": True, "stochastic": False, "differentiable": True}
FREE = {"stochastic": False, "differentiable": True}


# The building blocks of the faults, as they are


@right("a softmax by its formula", of=SOFTMAX)
def by_its_formula(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale)


@right("blocks of 64 keys with running sums and a remainder", of=SOFTMAX, at={"q_len": 130})
def by_blocks(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_blocks(q, k, v, mask, causal, scale)


@right("blocks of 7 keys", of=SOFTMAX, at={"q_len": 40, "causal": True})
def by_small_blocks(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_blocks(q, k, v, mask, causal, scale, size=7)


@right("torch's fused kernel", of=SOFTMAX)
def by_the_fused_kernel(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_sdpa(q, k, v, mask, causal, scale)


@right("heads that share keys, by a view", of=GROUPED, at={"heads": 6, "kv_heads": 2})
def grouped_by_views(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@right("heads that share keys are more rows of queries", of=GROUPED, at={"heads": 6, "kv_heads": 2})
def grouped_by_rows(q, k, v, *, mask=None, causal=False, scale=None):
    groups = k.shape[1]
    wide_q, wide_k, wide_v = widen(q, k, v)
    wide_q = wide_q.unflatten(1, (groups, -1))  # (B, groups, times, Nq, D)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    scores = torch.einsum("bgtid,bgjd->bgtij", wide_q, wide_k) * scale
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(*q.shape[:3], k.shape[2]).unflatten(1, (groups, -1))
    weights = weights_of(scores, visible)
    return torch.einsum("bgtij,bgjd->bgtid", weights, wide_v).flatten(1, 2).to(q.dtype)


# Ways to compute it


@right("in the domain of logarithms", of=SOFTMAX)
def by_logarithms(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return ((scores - scores.logsumexp(-1, keepdim=True)).exp() @ v).to(dtype)
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    return (weights.masked_fill(~visible, 0.0) @ v).to(dtype)


@right("with powers of two in place of exp", of=SOFTMAX)
def by_powers_of_two(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * (scale * math.log2(math.e))
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    largest = scores.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = torch.exp2(scores - largest)
    total = weights.sum(-1, keepdim=True)
    return (weights @ v / total.masked_fill(total == 0, 1.0)).to(dtype)


@right("one query at a time: slower than the reference by orders", of=SOFTMAX)
def by_single_queries(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(*q.shape[:3], k.shape[2])
    rows = [
        exact(
            q[:, :, i : i + 1],
            k,
            v,
            None if visible is None else visible[:, :, i : i + 1],
            False,
            scale,
        )
        for i in range(q.shape[2])
    ]
    return torch.cat(rows, 2)


@right("one head at a time, stacked", of=SOFTMAX)
def by_single_heads(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(*q.shape[:3], k.shape[2])
    heads = [
        exact(
            *(x[:, h, None] for x in (q, k, v)),
            None if visible is None else visible[:, h, None],
            False,
            scale,
        )
        for h in range(q.shape[1])
    ]
    return torch.cat(heads, 1)


@right("the output is a transposed view", of=SOFTMAX)
def not_contiguous(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output.transpose(1, 2).contiguous().transpose(1, 2)


@right("in place on what it made itself", of=SOFTMAX)
def in_place_on_its_own(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return (scores.sub_(scores.detach().amax(-1, keepdim=True)).softmax(-1) @ v).to(dtype)
    scores.masked_fill_(~visible, torch.finfo(scores.dtype).min)
    return (scores.softmax(-1).masked_fill(~visible, 0.0) @ v).to(dtype)


def _checkpointed(q, k, v, visible, scale):
    return weights_of(scores_of(q, k, scale), visible) @ v


@right("what it needs is computed again in the backward", of=SOFTMAX)
def by_a_checkpoint(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    wide = widen(q, k, v)
    return torch.utils.checkpoint.checkpoint(
        _checkpointed, *wide, visible, scale, use_reentrant=False
    ).to(q.dtype)


class _OwnBackward(torch.autograd.Function):
    """Softmax attention that keeps q, k and v alone; its backward is differentiable itself."""

    @staticmethod
    def forward(ctx, q, k, v, scale):
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        return (q @ k.mT * scale).softmax(-1) @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        p = (q @ k.mT * ctx.scale).softmax(-1)
        d = grad @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * ctx.scale
        return d @ k, d.mT @ q, p.mT @ grad, None


@right("a backward of its own with a right second derivative", of=SOFTMAX)
def own_backward(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None or causal:
        return exact(q, k, v, mask, causal, scale)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return _OwnBackward.apply(*widen(q, k, v), scale).to(q.dtype)


@right(
    "a NaN that is in no output and in no gradient",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.arange(12)[:, None].expand(12, 12) > 0},
)
def nan_that_is_filled(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return (scores.softmax(-1) @ v).to(dtype)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return (weights.masked_fill(~visible, 0.0) @ v).to(dtype)


_compiled = None


def _to_compile(q, k, v, scale):
    return (q @ k.mT * scale).softmax(-1) @ v


@right("compiled, with buffers that its backward gives away", of=SOFTMAX)
def compiled(q, k, v, *, mask=None, causal=False, scale=None):
    global _compiled
    if mask is not None or causal or q.device.type != "cpu":
        return exact(q, k, v, mask, causal, scale)
    if _compiled is None:
        _compiled = torch.compile(_to_compile, dynamic=True)
    wide = widen(q, k, v)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return _compiled(*wide, torch.tensor(scale, dtype=wide[0].dtype)).to(q.dtype)


@right("activation that is compiled", of=GELU)
def gelu_compiled_right(x):
    return _gelu()(x) if x.device.type == "cpu" else F.gelu(x)


@functools.cache
def _gelu():
    return torch.compile(F.gelu, dynamic=True, backend="aot_eager")


# What it says that it can't do


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


# Attentions that are something else


@right("a window that hides most keys", of=WINDOW, at={"q_len": 60})
def window_by_a_band(q, k, v, *, window, mask=None, causal=False, scale=None):
    near = distances(q, k) <= window
    return exact(q, k, v, near if mask is None else near & mask, causal, scale)


@right("sums over keys first, in linear time", of=KERNEL, masks="keys")
def kernel_by_sums(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    if mask is not None:
        key = key * mask.expand(*k.shape[:2], 1, k.shape[2]).mT
    if causal:
        weights = (query @ key.mT).tril(k.shape[2] - q.shape[2])
        total = weights.sum(-1, keepdim=True)
        return (weights @ v / total.masked_fill(total == 0, 1.0)).to(dtype)
    total = query @ key.sum(2, keepdim=True).mT
    return (query @ (key.mT @ v) / total.masked_fill(total == 0, 1.0)).to(dtype)


@right(
    "the recurrent form, one key after the other, as a forward",
    of=KERNEL,
    at={"causal": True},
    masks="keys",
)
def kernel_by_recurrence(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    if mask is not None:
        key = key * mask.expand(*k.shape[:2], 1, k.shape[2]).mT
    ahead = k.shape[2] - q.shape[2]
    memory = q.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
    total = q.new_zeros(*k.shape[:2], k.shape[3], 1)
    if not causal:
        memory, total = key.mT @ v, key.sum(2)[..., None]
    outputs, j = [], 0
    for i in range(q.shape[2]):
        while causal and j <= i + ahead and j < k.shape[2]:
            memory = memory + key[:, :, j, :, None] * v[:, :, j, None]
            total = total + key[:, :, j, :, None]
            j += 1
        below = query[:, :, i, None] @ total
        outputs.append(query[:, :, i, None] @ memory / below.masked_fill(below == 0, 1.0))
    return torch.cat(outputs, 2).to(dtype)


@right("divided by the number of keys", of=SIGMOID, at={"q_len": 5, "k_len": 30})
def sigmoid_by_tanh(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    weights = (1 + torch.tanh(scores_of(q, k, scale) / 2)) / (2 * k.shape[2])
    visible = visible_pairs(q, k, mask, causal)
    return ((weights if visible is None else weights * visible) @ v).to(dtype)


def reference_cosine(q, k, v, *, mask=None, causal=False, scale=None):
    cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    scores = cosines * (10.0 if scale is None else scale)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


@right(
    "cosines, which no factor of the keys changes", of=attention("cosine_base", reference_cosine)
)
def cosine_by_norms(q, k, v, *, mask=None, causal=False, scale=None):
    unit_q, unit_k = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in widen(q, k))
    return exact(unit_q, unit_k, widen(v)[0], mask, causal, 10.0 if scale is None else scale).to(
        q.dtype
    )


def additive_parameters(shape, generator):
    size = (shape.heads, shape.head_dim)
    return {"direction": nn.Parameter(torch.randn(size, generator=generator))}


@lone_right(
    "additive scores, for which a scale means nothing",
    of=attention(
        "additive_base",
        lambda q, k, v, **_: v,
        SOFT,
        unused=("scale",),
        tags=("additive", "soft"),
        parameters=additive_parameters,
    ),
)
def additive_scores(q, k, v, *, direction, mask=None, causal=False, scale=None):
    added = torch.tanh(q[:, :, :, None] + k[:, :, None])  # (B, H, Nq, Nk, D)
    scores = (added * direction[:, None, None]).sum(-1)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


@lone_right(
    "hard, with the gradient of the soft one, and said not to be differentiable",
    of=attention(
        "hard_base",
        lambda q, k, v, **_: v,
        {"row_stochastic": True, "stochastic": False, "differentiable": False},
        unused=("scale",),
        tags=("hard", "self", "cross"),
    ),
)
def hard_straight_through(q, k, v, *, mask=None, causal=False, scale=None):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    allowed = allowed_keys(q, k, mask, causal)
    soft = masked_softmax(scores, allowed)
    seen = scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)
    hard = F.one_hot(seen.argmax(-1), k.shape[2]).to(soft)
    hard = hard if allowed is None else hard * allowed
    return (hard + soft - soft.detach()) @ v


def random_features(shape, generator, features):
    return {"features_drawn": torch.randn(features, shape.head_dim, generator=generator)}


@lone_right(
    "random features that are drawn anew in training",
    of=attention(
        "features_base",
        lambda q, k, v, **_: v,
        {"row_stochastic": True, "stochastic": True, "differentiable": True},
        tags=("kernel", "self", "cross"),
        unused=("scale",),
        options={"features": 32},
        noise=random_features,
    ),
)
def features_at_random(q, k, v, *, features_drawn, features, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    if features_drawn is None:
        query, key = torch.sigmoid(q), torch.sigmoid(k)
    else:
        query, key = (torch.sigmoid(x @ features_drawn.to(x.dtype).mT) for x in (q, k))
    weights = query @ key.mT
    allowed = allowed_keys(q, k, mask, causal)
    weights = weights if allowed is None else weights.masked_fill(~allowed, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ v).to(dtype)


@right("over a map, by rows and columns", of=GRID, at={"q_len": 12, "grid": ((3, 4),)})
def grid_by_axes(q, k, v, *, grid, decay, mask=None, causal=False, scale=None):
    ((height, width),) = grid
    rows = torch.arange(height, device=q.device)
    columns = torch.arange(width, device=q.device)
    far = (rows[:, None] - rows).abs()[:, None, :, None] + (columns[:, None] - columns).abs()[
        :, None
    ]
    far = far.reshape(height * width, height * width)
    return exact(q, k, v, mask, causal, scale, -decay * far.to(q.dtype))


@right("gates that depend on the data, given at each call", of=GATED)
def gates_in_the_scores(q, k, v, *, log_gates, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale, log_gates[:, :, None])


@right("a bias of the keys that learns", of=KEY_BIAS)
def key_bias_added(q, k, v, *, key_bias, mask=None, causal=False, scale=None):
    bias = torch.einsum("bhjd->bhj", torch.tanh(k * key_bias[:, None]))
    return exact(q, k, v, mask, causal, scale, bias[:, :, None])


@right("the temperature is multiplied into the queries", of=TEMPERATURE)
def temperature_of_queries(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    factor = log_temperature.exp()[:, None, None]
    return exact(wide_q * factor, wide_k, wide_v, mask, causal, scale).to(q.dtype)


@lone_right(
    "causal by its mechanism, whatever is asked",
    of=attention(
        "retained_base",
        lambda q, k, v, **_: v,
        {**FREE, "patterns": ("causal_self", "causal_cross", "decode")},
        unused=("causal",),
        tags=("kernel", "self"),
    ),
)
def causal_always(q, k, v, *, mask=None, causal=True, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    decay = 0.9 ** distances(q, k).to(q.dtype)
    visible = allowed_keys(q, k, mask, True)
    return (q @ k.mT * scale * decay).masked_fill(~visible, 0.0) @ v


def zero_gate(shape, generator):
    return {"gate": nn.Parameter(torch.zeros(shape.heads))}


def reference_zero_gate(q, k, v, *, gate, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal))
    return gate[:, None, None] * (weights @ v)


@right(
    "a gate that begins at zero, so that its output does",
    of=attention("zero_gate_base", reference_zero_gate, FREE, parameters=zero_gate),
    at={"heads": 2, "tensors": {"gate": torch.tensor([0.3, -0.5])}},
)
def gate_of_zero(q, k, v, *, gate, mask=None, causal=False, scale=None):
    return (exact(q, k, v, mask, causal, scale) * gate[:, None, None]).to(q.dtype)


# Activations


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
