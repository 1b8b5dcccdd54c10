"""Linear attention (Katharopoulos et al., 2020, sections 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Attention, Case, Forward, Metadata, Paper, allowed_keys, hookimpl
from bakeoff.plugins.attention._costs import pair_flops
from bakeoff.plugins.attention._linear import (
    aligned_scan,
    causal_scan,
    counted,
    mean_of,
    mean_product,
    scan_flops,
    visible,
)
from bakeoff.plugins.attention._precision import wide


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j) with φ(x) = elu(x) + 1, equations 4 and 7.

    For negative x that is exp(x): subtracting 1 and adding it again would leave nothing of it.
    """
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    weights = query @ key.mT  # (B, H, Nq, Nk)
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
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """φ(q_i)ᵀ Σ_j φ(k_j) v_jᵀ, equation 6: the sum over keys first; causal in chunks."""
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    q, k = _features(q), visible(_features(k), mask)
    if causal:
        return mean_of(aligned_scan(q, k, counted(v))).to(dtype)
    return mean_product(q, k, v).to(dtype)


def recurrence(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: torch.Tensor | None = None,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrent network of section 3.4: the state is s, with z as its last column."""
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    sums, state = causal_scan(_features(q), visible(_features(k), mask), counted(v), state)
    return mean_of(sums).to(dtype), state


def _features(x: torch.Tensor) -> torch.Tensor:
    """elu(x) + 1 as exp(min(x, 0)) + max(x, 0), which cancels nowhere."""
    positive = x.relu()
    return (x - positive).exp_() + positive


def flops(case: Case) -> float:
    """A sum of D × (Dv + 1) products over keys, and one product with it for each query."""
    shape = case.attention_shape
    return scan_flops(case, shape.head_dim, shape.value_dim + 1)


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Linear attention."""
    yield Attention(
        "linear_attention",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "linear": Forward(linear, masks="keys", complexity="N", memory="N", flops=flops),
        },
        recurrence=recurrence,
        metadata=Metadata(
            title="Linear attention",
            summary="A positive feature map instead of the softmax: sums over keys come first.",
            formula=r"o_i = \frac{\phi(q_i)^\top \sum_j \phi(k_j) v_j^\top}"
            r"{\phi(q_i)^\top \sum_j \phi(k_j)},\quad \phi(x) = \operatorname{elu}(x) + 1",
            strengths=(
                "FLOPs and memory grow linearly with the length",
                "a state of fixed size when generating",
            ),
            weaknesses=(
                "weights are flat: it recalls single tokens badly",
                "the state forgets nothing",
            ),
            use_when="Very long sequences, or generation at a constant cost for each token.",
            tags=(
                "kernel",
                "soft",
                "self",
                "cross",
                "global",
                "efficient",
                "recurrent",
                "long_context",
                "language",
            ),
            section="efficient",
            paper=Paper(
                title="Transformers are RNNs: Fast Autoregressive Transformers with Linear "
                "Attention",
                authors=(
                    "Angelos Katharopoulos",
                    "Apoorv Vyas",
                    "Nikolaos Pappas",
                    "François Fleuret",
                ),
                year=2020,
                url="https://arxiv.org/abs/2006.16236",
            ),
            properties={
                "row_stochastic": True,
                "stochastic": False,
                "differentiable": True,
                "relative": True,
            },
            unused=("scale",),
        ),
    )
