"""Right variants that look odd: attentions that are something else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

from bakeoff import allowed_keys, masked_softmax
from planted.bases import (
    GATED,
    GRID,
    KERNEL,
    KEY_BIAS,
    SIGMOID,
    TEMPERATURE,
    WINDOW,
    attention,
    distances,
    exact,
    scores_of,
    visible_pairs,
    widen,
)
from planted.corpus import lone_right, right

SOFT = {"row_stochastic": True, "stochastic": False, "differentiable": True}
FREE = {"stochastic": False, "differentiable": True}


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
