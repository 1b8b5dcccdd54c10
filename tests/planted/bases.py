"""The variants that faults are planted in, each with its reference; and exact ways to compute them.

What is exact here shares no code with the references: a fast forward made of it is independent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import Activation, Attention, Connection, Forward, allowed_keys, masked_softmax
from planted.corpus import metadata

HALF = (torch.float16, torch.bfloat16)


def reference_softmax(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


def reference_grouped(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


def reference_window(q, k, v, *, window, mask=None, causal=False, scale=None):
    i = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device)[:, None]
    near = (i - torch.arange(k.shape[2], device=q.device)).abs() <= window
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    allowed = allowed_keys(q, k, near if mask is None else near & mask, causal)
    return masked_softmax(q @ k.mT * scale, allowed) @ v


def reference_alibi(q, k, v, *, slopes, mask=None, causal=False, scale=None):
    i = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device)[:, None]
    far = (i - torch.arange(k.shape[2], device=q.device)).abs()
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale - slopes[:, None, None] * far.to(q.dtype)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def slopes_of(shape, generator):
    heads = torch.arange(1, shape.heads + 1, dtype=torch.float32)
    return {"slopes": 2.0 ** (-8 * heads / shape.heads)}


def reference_sigmoid(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    allowed = allowed_keys(q, k, mask, causal)
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    weights = torch.sigmoid(q @ k.mT * scale) / k.shape[2]
    return ((weights if allowed is None else weights.masked_fill(~allowed, 0.0)) @ v).to(dtype)


def reference_kernel(q, k, v, *, mask=None, causal=False, scale=None):
    allowed = allowed_keys(q, k, mask, causal)
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).mT
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ v).to(dtype)


def reference_temperature(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale * log_temperature.exp()[:, None, None]
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def temperatures(shape, generator):
    return {"log_temperature": nn.Parameter(0.1 * torch.randn(shape.heads, generator=generator))}


def reference_key_bias(q, k, v, *, key_bias, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale + torch.tanh(k * key_bias[:, None]).sum(-1)[:, :, None]
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def key_biases(shape, generator):
    drawn = torch.randn(shape.heads, shape.head_dim, generator=generator)
    return {"key_bias": nn.Parameter(drawn)}


def reference_dropout(q, k, v, *, keep, rate, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal))
    return (weights if keep is None else weights * keep) @ v


def kept(shape, generator, rate):
    size = (shape.batch, shape.heads, shape.q_len, shape.k_len)
    return {"keep": (torch.rand(size, generator=generator) >= rate) / (1 - rate)}


def reference_gated(q, k, v, *, log_gates, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale + log_gates[:, :, None]
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def log_gates_of(shape, generator):
    drawn = torch.randn(shape.batch, shape.heads, shape.k_len, generator=generator)
    return {"log_gates": F.logsigmoid(drawn)}


def reference_grid(q, k, v, *, grid, decay, mask=None, causal=False, scale=None):
    ((height, width),) = grid
    place = torch.arange(height * width, device=q.device)
    row, column = place // width, place % width
    far = (row[:, None] - row).abs() + (column[:, None] - column).abs()
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.mT * scale - decay * far.to(q.dtype)
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def needs_one_grid(case):
    shape = case.attention_shape
    if shape.grid is None or len(shape.grid) > 1:
        return "it needs a grid of one level"
    return None if shape.q_len == shape.k_len else "its queries are the positions of the grid"


_SOFT = {"row_stochastic": True, "stochastic": False, "differentiable": True}


def attention(
    name, fn, properties=_SOFT, unused=(), tags=("soft", "global", "self", "cross"), **fields
):
    """An attention with a reference alone."""
    described = metadata(tags=tags, properties=properties, unused=unused)
    return Attention(name, forwards={"reference": fn}, metadata=described, **fields)


SOFTMAX = attention("softmax_base", reference_softmax)
GROUPED = attention("grouped_base", reference_grouped, grouped=True)
WINDOW = attention(
    "window_base", reference_window, tags=("soft", "local", "self"), options={"window": 5}
)
ALIBI = attention("alibi_base", reference_alibi, parameters=slopes_of)
SIGMOID = attention(
    "sigmoid_base", reference_sigmoid, {"stochastic": False, "differentiable": True}
)
KERNEL = attention("kernel_base", reference_kernel, unused=("scale",))
TEMPERATURE = attention("temperature_base", reference_temperature, parameters=temperatures)
KEY_BIAS = attention("key_bias_base", reference_key_bias, parameters=key_biases)
DROPOUT = attention(
    "dropout_base",
    reference_dropout,
    {"stochastic": True, "differentiable": True},
    options={"rate": 0.2},
    noise=kept,
)
GATED = attention("gated_base", reference_gated, inputs=log_gates_of)
GRID = attention(
    "grid_base",
    Forward(reference_grid, supports=needs_one_grid),
    {**_SOFT, "patterns": ("self",)},
    options={"decay": 0.3},
    unused=("causal",),
)


def visible_pairs(q, k, mask, causal):
    """Which pairs may attend, or None; written without the registry's help."""
    if not causal:
        return mask
    last = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
    past = torch.arange(k.shape[2], device=q.device) <= last
    return past if mask is None else past & mask


def widen(*tensors):
    """The tensors, in float32 where they have half the precision."""
    return tuple(x.float() if x.dtype in HALF else x for x in tensors)


def scores_of(q, k, scale):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.einsum("bhid,bhjd->bhij", q, k) * scale


def weights_of(scores, visible):
    """A softmax by its formula; rows that see nothing are zero."""
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    largest = scores.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = (scores - largest).exp()
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1.0)


def exact(q, k, v, mask=None, causal=False, scale=None, bias=None):
    """Softmax attention, in float32 at least; ``bias`` is added to the scores."""
    wide_q, wide_k, wide_v = widen(q, k, v)
    scores = scores_of(wide_q, wide_k, scale)
    if bias is not None:
        scores = scores + bias
    return (weights_of(scores, visible_pairs(q, k, mask, causal)) @ wide_v).to(q.dtype)


def exact_by_blocks(q, k, v, mask=None, causal=False, scale=None, size=64):
    """Softmax attention over blocks of keys, with running sums."""
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        visible = visible.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    largest = q.new_full((*q.shape[:3], 1), torch.finfo(q.dtype).min)
    total, output = torch.zeros_like(largest), q.new_zeros(*q.shape[:3], v.shape[3])
    for start in range(0, k.shape[2], size):
        scores = scores_of(q, k[:, :, start : start + size], scale)
        if visible is not None:
            scores = scores.masked_fill(~visible[..., start : start + size], -torch.inf)
        new = torch.maximum(largest, scores.detach().amax(-1, keepdim=True))
        old, weights = (largest - new).exp(), (scores - new).exp()
        total = total * old + weights.sum(-1, keepdim=True)
        output = output * old + weights @ v[:, :, start : start + size]
        largest = new
    return (output / total.masked_fill(total == 0, 1.0)).to(dtype)


def exact_by_sdpa(q, k, v, mask=None, causal=False, scale=None):
    """Softmax attention by torch's fused kernel."""
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
    return output.masked_fill(~visible.any(-1, keepdim=True), 0.0)


def repeated(q, *shared):
    """Each key head as often as query heads share it."""
    times = q.shape[1] // shared[0].shape[1]
    return tuple(x[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2) for x in shared)


def distances(q, k):
    """|i - j|, aligned at the lower right."""
    i = torch.arange(q.shape[2], device=q.device) + (k.shape[2] - q.shape[2])
    return (i[:, None] - torch.arange(k.shape[2], device=q.device)).abs()


# Activations


def reference_gelu(x):
    return 0.5 * x * (1 + torch.erf(x * 0.5**0.5))


def reference_silu(x):
    return x * torch.sigmoid(x)


def reference_tanh(x):
    return torch.tanh(x)


def reference_softplus(x):
    return F.softplus(x, threshold=1000)


def reference_mish(x):
    return x * torch.tanh(F.softplus(x, threshold=1000))


def reference_elu(x, *, alpha):
    return F.elu(x, alpha)


def reference_swiglu(x):
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


def reference_softmax_features(x):
    return x.softmax(-1)


def reference_log_softmax(x):
    return x.log_softmax(-1)


def reference_prelu(x, *, slope):
    return torch.where(x > 0, x, slope * x)


def slope_per_feature(features, generator):
    return {"slope": nn.Parameter(0.25 + 0.1 * torch.randn(features, generator=generator))}


def reference_swish(x, *, beta):
    return x * torch.sigmoid(beta * x)


def one_beta(features, generator):
    return {"beta": nn.Parameter(torch.ones(1))}


def reference_centred(x, *, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)


def reference_squared_relu(x):
    return F.relu(x).square()


def activation(name, fn, properties=None, **fields):
    """An activation with a reference alone."""
    described = metadata(tags=("hidden_layer",), properties=properties or {})
    return Activation(name, forwards={"reference": fn}, metadata=described, **fields)


SMOOTH = {"elementwise": True, "smooth": True}
GELU = activation("gelu_base", reference_gelu, SMOOTH)
SILU = activation("silu_base", reference_silu, SMOOTH)
TANH = activation("tanh_base", reference_tanh, {**SMOOTH, "monotonic": True, "range": (-1.0, 1.0)})
SOFTPLUS = activation("softplus_base", reference_softplus, {**SMOOTH, "monotonic": True})
MISH = activation("mish_base", reference_mish, SMOOTH)
ELU = activation("elu_base", reference_elu, {"elementwise": True}, options={"alpha": 1.0})
SWIGLU = activation("swiglu_base", reference_swiglu, {"smooth": True}, gated=True)
SOFTMAX_FEATURES = activation(
    "softmax_features_base",
    reference_softmax_features,
    {"elementwise": False, "smooth": True, "range": (0.0, 1.0)},
)
LOG_SOFTMAX = activation("log_softmax_base", reference_log_softmax, {"smooth": True})
PRELU = activation(
    "prelu_base", reference_prelu, {"elementwise": True}, parameters=slope_per_feature
)
SWISH = activation("swish_base", reference_swish, SMOOTH, parameters=one_beta)
CENTRED = activation(
    "centred_base", reference_centred, {"elementwise": False}, options={"eps": 1e-5}
)
SQUARED_RELU = activation(
    "squared_relu_base", reference_squared_relu, {**SMOOTH, "monotonic": True}
)


# Connections


def reference_residual(x, branch):
    return x + branch(x)


def reference_pre_norm(x, branch, *, eps):
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return x + branch(centred / torch.sqrt(variance + eps))


def reference_rezero(x, branch, *, alpha):
    return x + alpha * branch(x)


def alpha_of_zero(features, generator):
    return {"alpha": nn.Parameter(torch.zeros(1))}


def reference_highway(x, branch, *, weight, bias):
    gate = torch.sigmoid(x @ weight.mT + bias)
    return gate * branch(x) + (1 - gate) * x


def highway_parameters(features, generator):
    weight = torch.randn(features, features, generator=generator) / features**0.5
    return {"weight": nn.Parameter(weight), "bias": nn.Parameter(torch.full((features,), -1.0))}


def connection(name, fn, identity_path, **fields):
    """A connection with a reference alone."""
    properties = {"stochastic": False, "differentiable": True, "identity_path": identity_path}
    described = metadata(tags=("skip",), properties=properties)
    return Connection(name, forwards={"reference": fn}, metadata=described, **fields)


RESIDUAL = connection("residual_base", reference_residual, True)
PRE_NORM = connection("pre_norm_base", reference_pre_norm, True, options={"eps": 1e-5})
REZERO = connection("rezero_base", reference_rezero, True, parameters=alpha_of_zero)
HIGHWAY = connection("highway_base", reference_highway, False, parameters=highway_parameters)
