"""Hard attention: one location sampled for each query (Xu et al., 2015, section 4.1).

Its gradient is the straight-through Gumbel-softmax estimator (Jang et al., 2017, section 2.2), at
temperature 1, in place of REINFORCE.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from bakeoff import (
    Attention,
    Case,
    Forward,
    Metadata,
    Paper,
    Shape,
    allowed_keys,
    hookimpl,
    masked_softmax,
)
from bakeoff.plugins.attention._blocks import allowed_in_block, query_blocks
from bakeoff.plugins.attention._costs import pair_flops


def reference(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    gumbel: torch.Tensor | None,  # (B, H, Nq, Nk); None when evaluating
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """v_j for j = argmax(q kᵀ / √D + g), which is a draw from softmax(q kᵀ / √D).

    Without noise it is the likeliest j. The gradient is that of softmax(q kᵀ / √D + g) v with the
    values weighted as they were drawn. Which one that is jumps: scores are in float32 at least, so
    that rounding makes no ties.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).mT * scale  # (B, H, Nq, Nk)
    if gumbel is not None:
        scores = scores + gumbel
    allowed = allowed_keys(q, k, mask, causal)
    soft = masked_softmax(scores, allowed)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    drawn = torch.zeros_like(soft)
    if k.shape[-2]:
        drawn = F.one_hot(scores.argmax(-1), k.shape[-2]).to(soft)
    if allowed is not None:
        drawn = drawn * allowed  # a query without keys draws none
    return ((drawn + (soft - soft.detach())) @ v.to(wide)).to(q.dtype)


def gathered(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    gumbel: torch.Tensor | None,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The scores of a block of queries at a time, and of the values only those that were drawn."""
    if k.shape[2] == 0:
        return q @ k.mT @ v  # nothing to draw from: zeros
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    tensors = (q.to(wide) * scale, k.to(wide), v.to(wide), gumbel, mask, causal)
    output: torch.Tensor = _Drawn.apply(*tensors)  # type: ignore[no-untyped-call]
    return output.to(q.dtype)


class _Drawn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,  # (B, H, Nq, D), scaled
        k: torch.Tensor,  # (B, H, Nk, D)
        v: torch.Tensor,  # (B, H, Nk, Dv)
        gumbel: torch.Tensor | None,
        mask: torch.Tensor | None,
        causal: bool,
    ) -> torch.Tensor:
        outputs, places = [], []
        for rows, keys in query_blocks(q, k, causal):
            scores, allowed = _scores(rows, keys, q, k, gumbel, mask, causal)
            if allowed is not None:
                scores = scores.masked_fill(~allowed, -torch.inf)
            best = scores.max(-1, keepdim=True)
            drawn = v.gather(2, best.indices.expand(-1, -1, -1, v.shape[3]))
            outputs.append(drawn.masked_fill(best.values == -torch.inf, 0.0))
            places.append(best.indices)
        ctx.save_for_backward(q, k, v, gumbel, mask, torch.cat(places, 2))
        ctx.causal = causal
        return torch.cat(outputs, 2)

    @staticmethod
    def backward(ctx: Any, *into: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, gumbel, mask, places = ctx.saved_tensors
        into_q, into_k, into_v = map(torch.zeros_like, (q, k, v))
        for rows, keys in query_blocks(q, k, ctx.causal):
            scores, allowed = _scores(rows, keys, q, k, gumbel, mask, ctx.causal)
            of_rows, place = into[0][:, :, rows], places[:, :, rows]
            if allowed is not None:
                seen = allowed.expand_as(scores).any(-1, keepdim=True)
                of_rows = of_rows.masked_fill(~seen, 0.0)
            into_v.scatter_add_(2, place.expand(-1, -1, -1, v.shape[3]), of_rows)
            soft = masked_softmax(scores, allowed)
            into_soft = of_rows @ v[:, :, keys].mT
            into_scores = soft * (into_soft - (soft * into_soft).sum(-1, keepdim=True))
            into_q[:, :, rows] = into_scores @ k[:, :, keys]
            into_k[:, :, keys] += into_scores.mT @ q[:, :, rows]
            if torch.is_grad_enabled():  # zero, but with the derivative that a second one asks for
                into_v[:, :, keys] += (soft - soft.detach()).mT @ of_rows
        return into_q, into_k, into_v, None, None, None


def _scores(
    rows: slice,
    keys: slice,
    q: torch.Tensor,
    k: torch.Tensor,
    gumbel: torch.Tensor | None,
    mask: torch.Tensor | None,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A block of scores with their noise, and which of them may be drawn."""
    scores = q[:, :, rows] @ k[:, :, keys].mT
    if gumbel is not None:
        scores = scores + gumbel[:, :, rows, keys]
    return scores, allowed_in_block(rows, keys, q, k, mask, causal)


def noise(shape: Shape, generator: torch.Generator | None) -> Mapping[str, torch.Tensor]:
    """Gumbel noise for each pair: −log of an exponential."""
    size = (shape.batch, shape.heads, shape.q_len, shape.k_len)
    return {"gumbel": torch.empty(size).exponential_(generator=generator).log_().neg_()}


def score_flops(case: Case) -> float:
    """One product over the visible pairs: the values are looked up."""
    shape = case.attention_shape
    return 2.0 * shape.batch * shape.heads * case.visible_pairs * shape.head_dim


@hookimpl
def bakeoff_variants() -> Iterable[Attention]:
    """Hard attention."""
    yield Attention(
        "hard",
        forwards={
            "reference": Forward(reference, complexity="N^2", memory="N^2", flops=pair_flops),
            "gathered": Forward(gathered, complexity="N^2", memory="N", flops=score_flops),
        },
        noise=noise,
        metadata=Metadata(
            title="Hard attention",
            summary="Each query draws one key and takes its value; the likeliest when evaluating.",
            formula=r"o_i = v_{j^*},\quad j^* \sim \operatorname{softmax}_j\!\left("
            r"\frac{q_i \cdot k_j}{\sqrt{D}}\right)",
            strengths=(
                "says what was looked at, as one place",
                "reads one value for each query",
            ),
            weaknesses=(
                "its gradient is an estimate, biased or noisy",
                "all scores are computed nevertheless",
            ),
            use_when="A decision must be one place: pointing, captioning, explaining.",
            tags=("dot_product", "hard", "self", "cross", "global", "vision"),
            section="soft and hard",
            paper=Paper(
                title="Show, Attend and Tell: Neural Image Caption Generation with Visual "
                "Attention",
                authors=(
                    "Kelvin Xu",
                    "Jimmy Ba",
                    "Ryan Kiros",
                    "Kyunghyun Cho",
                    "Aaron Courville",
                    "Ruslan Salakhutdinov",
                    "Richard S. Zemel",
                    "Yoshua Bengio",
                ),
                year=2015,
                url="https://arxiv.org/abs/1502.03044",
            ),
            properties={"row_stochastic": True, "stochastic": True, "differentiable": False},
        ),
    )
