"""Performer, FAVOR+ (Choromanski et al., 2021, sections 2.3 and 2.4, lemma 1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F

from bakeoff import Attention, Case, Forward, Metadata, Paper, Shape, allowed_keys, hookimpl
from bakeoff.plugins.attention._empty import with_a_key
from bakeoff.plugins.attention._linear import (
    counted,
    decayed_states,
    in_chunks,
    mean_of,
    pairs_are_fewer,
    scan_flops,
    visible,
)
from bakeoff.plugins.attention._precision import wide

#: What the sums over keys hold for each feature: its largest exponent so far, and the sums of
#: counted values with weights exp(exponent − largest).
State = tuple[torch.Tensor, torch.Tensor]  # (B, H, M), (B, H, M, Dv + 1)


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    projection: torch.Tensor,  # (M, D)
    features: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Weights φ(q_i)·φ(k_j) with φ(x)_f = exp(ω_fᵀ x − |x|²/2) / √M, as a matrix.

    Constants that cancel are taken off the exponents, as the authors' code does: from those of
    the keys the largest of each feature, which the queries get, and from those of a query its own.
    """
    dtype = q.dtype
    k, v, mask = with_a_key(k, v, mask)
    q, k, v, projection = wide(q, k, v, projection)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    root = math.sqrt(abs(scale))
    query, key = q * math.copysign(root, scale), k * root
    query_exponents = query @ projection.T - query.square().sum(-1, keepdim=True) / 2
    key_exponents = key @ projection.T - key.square().sum(-1, keepdim=True) / 2  # (B, H, Nk, M)
    largest = key_exponents.detach().amax(-2, keepdim=True)
    query_exponents = query_exponents + largest
    query_exponents = query_exponents - query_exponents.detach().amax(-1, keepdim=True)
    weights = query_exponents.exp() @ (key_exponents - largest).exp().mT / features
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0.0)
    total = weights.sum(-1, keepdim=True)
    return (weights @ v / total.masked_fill(total == 0, 1.0)).to(dtype)


def linear(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    projection: torch.Tensor,
    features: int,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The sum over keys first, equation 4; causal in chunks."""
    dtype = q.dtype
    k, v, mask = with_a_key(k, v, mask)
    q, k, v, projection = wide(q, k, v, projection)
    products = _query_products(q, projection, scale)
    exponents = _key_exponents(k, projection, mask, scale)
    if not causal:
        return _all_keys(products, exponents, v, mask).to(dtype)
    v = visible(counted(v), mask)
    before = max(0, k.shape[2] - q.shape[2])  # keys that every query sees
    blind = max(0, q.shape[2] - k.shape[2])  # queries that see no key
    state = None
    if before:
        largest, weights = _key_weights(exponents[..., :before])
        state = largest[..., 0], weights @ v[:, :, :before]
    sums, _ = _scan(products[:, :, blind:], exponents[..., before:], v[:, :, before:], state)
    return F.pad(mean_of(sums), (0, 0, blind, 0)).to(dtype)


def _all_keys(
    products: torch.Tensor, exponents: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Every query sees every key: a mean over the features of the means over the keys.

    o_i = Σ_f p_if (Σ_j weight_fj v_j / total_f) with total_f = Σ_j weight_fj and
    p_i = softmax_f(ω_fᵀ q_i + largest_f + log total_f): what is divided is M × Dv, not N × Dv.
    """
    largest, weights = _key_weights(exponents)
    if mask is not None:
        weights = visible(weights.mT, mask).mT
    if pairs_are_fewer(products, weights.mT, v):
        pairs = products.add_(largest.mT).softmax(-1) @ weights  # (B, H, Nq, Nk)
        return mean_of(pairs @ counted(v))
    total = weights.sum(-1, keepdim=True)  # (B, H, M, 1)
    total = total.masked_fill(total == 0, 1.0)
    query = products.add_((largest + total.log()).mT).softmax(-1)
    return query @ (weights @ v / total)


def recurrence(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: State | None = None,
    *,
    projection: torch.Tensor,
    features: int,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> tuple[torch.Tensor, State]:
    """Prefix sums over the keys; the state is described at :data:`State`."""
    dtype = q.dtype
    q, k, v, projection = wide(q, k, v, projection)
    exponents, v = _key_exponents(k, projection, mask, scale), visible(counted(v), mask)
    sums, state = _scan(_query_products(q, projection, scale), exponents, v, state)
    return mean_of(sums).to(dtype), state


def _query_products(q: torch.Tensor, projection: torch.Tensor, scale: float | None) -> torch.Tensor:
    """ω_fᵀ q for each feature; |q|²/2 cancels."""
    root = root_of(q, scale)
    return q @ (projection * (root if scale is None else math.copysign(root, scale))).T


def _key_exponents(
    k: torch.Tensor, projection: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """ω_fᵀ k − |k|²/2 for each feature, (B, H, M, Nk); least where hidden.

    It works in place, as all that follows a product may: a product needs its factors alone.
    """
    root = root_of(k, scale)
    exponents = (projection * root) @ k.mT
    exponents.add_(k.square().sum(-1)[:, :, None] * (-(root**2) / 2))
    if mask is None:
        return exponents
    hidden = ~mask.broadcast_to(*k.shape[:2], 1, k.shape[2])
    return exponents.masked_fill_(hidden, torch.finfo(k.dtype).min)


def root_of(x: torch.Tensor, scale: float | None) -> float:
    """What queries and keys are both multiplied with, so that their products are scaled.

    A negative scale turns the queries round besides.
    """
    return math.sqrt(1 / math.sqrt(x.shape[-1]) if scale is None else abs(scale))


def _key_weights(exponents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest exponent of each feature, and exp(exponent − largest): one of them is 1."""
    largest = exponents.detach().amax(-1, keepdim=True)
    return largest, exponents.sub_(largest).exp_()


def _scan(
    products: torch.Tensor,  # (B, H, N, M)
    exponents: torch.Tensor,  # (B, H, M, N)
    v: torch.Tensor,  # (B, H, N, Dv + 1)
    state: State | None,
) -> tuple[torch.Tensor, State]:
    """Sums over the keys up to each query, in chunks, each with the largest exponents so far.

    What a later chunk holds can therefore not drown an earlier one.
    """
    length, least = exponents.shape[3], torch.finfo(exponents.dtype).min
    exponents = in_chunks(exponents.mT, least).mT.contiguous()  # (B, H, chunks, M, chunk)
    products, v = in_chunks(products), in_chunks(v)
    largest = exponents.detach().amax(-1)  # (B, H, chunks, M)
    if state is None:
        first, start = torch.full_like(largest[:, :, :1], least), None
    else:
        first, start = state[0][:, :, None], state[1]
    largest = torch.cat([first, largest], 2).cummax(2).values
    decay = (largest[:, :, :-1] - largest[:, :, 1:]).exp()[..., None]
    weights = exponents.sub_(largest[:, :, 1:, :, None]).exp_()
    earlier, last = decayed_states(weights @ v, decay, start)
    # The softmax is the exponential, divided by what cancels: one pass instead of three.
    query = products.add_(largest[:, :, 1:, None]).softmax(-1)
    sums = (query @ weights).tril_() @ v + query @ (earlier * decay)
    return sums.flatten(2, 3)[:, :, :length], (largest[:, :, -1], last)


def parameters(
    shape: Shape, generator: torch.Generator | None, features: int
) -> Mapping[str, torch.Tensor]:
    """Blocks of orthogonal rows with the lengths of Gaussian ones, section 2.4; a buffer."""
    dim = shape.head_dim
    blocks = []
    for _ in range(-(-features // dim)):
        square = torch.randn(dim, dim, generator=generator)
        orthogonal, upper = torch.linalg.qr(square)
        # Without the signs the directions were not uniform, and the estimate not unbiased.
        blocks.append((orthogonal * upper.diagonal().sign()).T)
    lengths = torch.randn(features, dim, generator=generator).norm(dim=1, keepdim=True)
    return {"projection": lengths * torch.cat(blocks)[:features]}


def flops(case: Case) -> float:
    """The projections on the features, and the sums over keys."""
    features = int(case.options["features"])
    return _projection_flops(case) + scan_flops(case, features, case.attention_shape.value_dim + 1)


def reference_flops(case: Case) -> float:
    """The projections on the features, and two products over pairs."""
    shape, features = case.attention_shape, int(case.options["features"])
    pairs = 2.0 * shape.batch * shape.heads * case.visible_pairs
    return _projection_flops(case) + pairs * (features + shape.value_dim)


def _projection_flops(case: Case) -> float:
    shape, features = case.attention_shape, int(case.options["features"])
    return 2.0 * shape.batch * shape.heads * (shape.q_len + shape.k_len) * shape.head_dim * features


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Performer."""
    yield Attention(
        "performer",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=reference_flops),
            "linear": Forward(linear, masks="keys", complexity="N", memory="N", flops=flops),
        },
        options={"features": 256},
        parameters=parameters,
        recurrence=recurrence,
        approximates="scaled_dot_product",
        metadata=Metadata(
            title="Performer (FAVOR+)",
            summary="The softmax kernel estimated, without bias, by positive random features.",
            formula=r"o_i = \frac{\phi(q_i)^\top \sum_j \phi(k_j) v_j^\top}"
            r"{\phi(q_i)^\top \sum_j \phi(k_j)},\quad "
            r"\phi(x)_f = \frac{1}{\sqrt{M}} e^{\omega_f^\top x - |x|^2 / 2}",
            strengths=(
                "FLOPs and memory grow linearly with the length",
                "stands in for softmax without training anew",
            ),
            weaknesses=(
                "the error falls only like the root of the features",
                "it grows exponentially with the size of queries and keys",
            ),
            use_when="Long sequences with attention that is spread out: proteins, music, images.",
            tags=(
                "kernel",
                "soft",
                "self",
                "cross",
                "global",
                "low_rank",
                "efficient",
                "recurrent",
                "long_context",
            ),
            section="low-rank",
            paper=Paper(
                title="Rethinking Attention with Performers",
                authors=(
                    "Krzysztof Choromanski",
                    "Valerii Likhosherstov",
                    "David Dohan",
                    "Xingyou Song",
                    "Andreea Gane",
                    "Tamas Sarlos",
                    "Peter Hawkins",
                    "Jared Davis",
                    "Afroz Mohiuddin",
                    "Lukasz Kaiser",
                    "David Belanger",
                    "Lucy Colwell",
                    "Adrian Weller",
                ),
                year=2021,
                url="https://arxiv.org/abs/2009.14794",
            ),
            properties={"row_stochastic": True, "stochastic": False, "differentiable": True},
        ),
    )
