"""Softmax attention a tile of scores at a time, with memory that grows linearly in the length.

The softmax runs on along the keys (Milakov and Gimelshein, 2018, algorithm 3), and the backward
computes each tile again from the logarithm of the row's sum (Dao et al., 2022, algorithm 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bakeoff import masked_softmax

__all__ = ["Tiling", "tiled_attention"]

#: Scores of a tile, over batch and heads: 2 MiB in float32, which the caches hold.
TILE_ELEMENTS = 2**19
#: Keys in a tile, and the fewest queries.
KEYS, LEAST_ROWS = 512, 32


def tiled_attention(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    mask: torch.Tensor | None,
    causal: bool,
    scale: float,
    *,
    cap: float | None = None,
    levels: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """softmax(s) v of the scores s = q kᵀ · scale; half precision is computed on in float32.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: As in every attention.
        causal: Likewise.
        scale: Of the products.
        cap: Where given, scores become cap · tanh(s / cap); not together with levels.
        levels: (B, H, Nq) and (B, H, Nk), in float64 where they are large: to each score is added
            the level of its query minus that of its key; the other way round where the key comes
            after the query.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    tensors = [t.to(wide).flatten(0, 1) for t in (q, k, v)]
    tensors[0] = tensors[0] * scale
    own = tuple(t.flatten(0, 1) for t in levels) if levels else (None, None)
    tiling = Tiling.of(q, k, causal)
    output: torch.Tensor = _Tiled.apply(tiling, mask, cap, *tensors, *own)  # type: ignore[no-untyped-call]
    return output.view(*q.shape[:3], v.shape[-1]).to(q.dtype)


@dataclass(frozen=True)
class Tiling:
    """Which tiles there are, and which of their pairs lie where."""

    batch: int
    heads: int
    q_len: int
    k_len: int
    causal: bool
    device: torch.device

    @classmethod
    def of(cls, q: torch.Tensor, k: torch.Tensor, causal: bool) -> Tiling:
        """That of q (B, H, Nq, D) and k (B, H, Nk, D)."""
        batch, heads, q_len, _ = q.shape
        return cls(batch, heads, q_len, k.shape[2], causal, q.device)

    def blocks(self) -> Iterator[slice]:
        """Queries."""
        size = max(LEAST_ROWS, TILE_ELEMENTS // max(1, self.batch * self.heads * KEYS))
        yield from _slices(self.q_len, size)

    def tiles(self, rows: slice) -> Iterator[slice]:
        """The keys that some of the rows may see."""
        last = rows.stop + self.k_len - self.q_len
        yield from _slices(last if self.causal else self.k_len, KEYS)

    def past(self, rows: slice, keys: slice) -> torch.Tensor | bool:
        """Which keys do not come after their query: all, none, or (r, n)."""
        first = rows.start + self.k_len - self.q_len
        if keys.stop <= first + 1:
            return True
        if keys.start >= rows.stop + self.k_len - self.q_len:
            return False
        size = (rows.stop - rows.start, keys.stop - keys.start)
        return torch.ones(size, dtype=torch.bool, device=self.device).tril(first - keys.start)

    def allowed(self, rows: slice, keys: slice, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Which keys each row may attend to, None for all."""
        past = self.past(rows, keys) if self.causal else True
        lower = past if isinstance(past, torch.Tensor) else None
        if mask is None:
            return lower
        whole = mask.expand(self.batch, self.heads, self.q_len, self.k_len)
        own = whole[:, :, rows, keys].flatten(0, 1)
        return own if lower is None else own & lower


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tiling: Tiling,
        mask: torch.Tensor | None,
        cap: float | None,
        q: torch.Tensor,  # (B·H, Nq, D), scaled
        k: torch.Tensor,  # (B·H, Nk, D)
        v: torch.Tensor,  # (B·H, Nk, Dv)
        query_levels: torch.Tensor | None,  # (B·H, Nq)
        key_levels: torch.Tensor | None,  # (B·H, Nk); *levels would be more than Dynamo can bind
    ) -> torch.Tensor:
        ctx.tiling, ctx.cap = tiling, cap
        levels = tuple(x for x in (query_levels, key_levels) if x is not None)
        output = q.new_zeros(*q.shape[:2], v.shape[2])
        log_sums = q.new_empty(*q.shape[:2], 1)  # log Σ exp of each row
        least = torch.finfo(q.dtype).min
        for rows in tiling.blocks():
            top = torch.full_like(log_sums[:, rows], least)
            total, mean = torch.zeros_like(top), output[:, rows]
            for keys in tiling.tiles(rows):
                scores = _scores(ctx, rows, keys, mask, q, k, levels)
                higher = torch.maximum(top, scores.amax(-1, keepdim=True))
                weights, fade = scores.sub_(higher).exp_(), (top - higher).exp_()
                total.mul_(fade).add_(weights.sum(-1, keepdim=True))
                mean.mul_(fade).baddbmm_(weights, v[:, keys])
                top = higher
            empty = total == 0
            mean.div_(total.masked_fill(empty, 1))
            # A row without keys: exp(s − inf) is zero.
            log_sums[:, rows] = top.add_(total.log_()).masked_fill_(empty, torch.inf)
        ctx.save_for_backward(mask, output, log_sums, q, k, v, *levels)
        return output

    @staticmethod
    def backward(ctx: Any, *into: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mask, output, log_sums, q, k, v, *levels = ctx.saved_tensors
        if torch.is_grad_enabled():  # it will be differentiated again
            return None, None, None, *_differentiable_gradients(ctx, into[0], mask, q, k, v, levels)
        into_output = into[0].contiguous()
        into_q, into_k, into_v, *into_levels = map(torch.zeros_like, (q, k, v, *levels))
        # Σ_j w_ij dw_ij, the mean that a softmax takes off.
        means = (output * into_output).sum(-1, keepdim=True)
        for rows in ctx.tiling.blocks():
            for keys in ctx.tiling.tiles(rows):
                scores = _scores(ctx, rows, keys, mask, q, k, levels)
                weights = (scores - log_sums[:, rows]).exp_()
                into_v[:, keys].baddbmm_(weights.mT, into_output[:, rows])
                into_scores = torch.bmm(into_output[:, rows], v[:, keys].mT)
                into_scores.sub_(means[:, rows]).mul_(weights)
                if into_levels:
                    _add_into_levels(ctx, rows, keys, into_scores, into_levels)
                if ctx.cap is not None:
                    # d tanh(x) = 1 − tanh²(x); a hidden score is −inf, with a gradient of zero.
                    capped = scores.div_(ctx.cap).square_().clamp_(max=1)
                    into_scores.addcmul_(into_scores, capped, value=-1)
                into_q[:, rows].baddbmm_(into_scores, k[:, keys])
                into_k[:, keys].baddbmm_(into_scores.mT, q[:, rows])
        return None, None, None, into_q, into_k, into_v, *(into_levels or (None, None))


def _differentiable_gradients(
    ctx: Any,
    into: torch.Tensor,
    mask: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    levels: list[torch.Tensor],
) -> tuple[torch.Tensor | None, ...]:
    """The gradients with a graph of their own, from all N² scores at once.

    The tiles work in place and unseen by autograd: a second derivative through them would be wrong.
    """
    rows, keys = slice(0, q.shape[1]), slice(0, k.shape[1])
    scores = q @ k.mT
    if ctx.cap is not None:
        scores = ctx.cap * (scores / ctx.cap).tanh()
    if levels:
        scores = scores + _steps(ctx.tiling, rows, keys, tuple(levels), q.dtype)
    output = masked_softmax(scores, ctx.tiling.allowed(rows, keys, mask)) @ v
    leaves = [*(q, k, v), *(levels or (None, None))]
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, into, create_graph=True))
    return tuple(None if x is None or not x.requires_grad else next(found) for x in leaves)


def _scores(
    ctx: Any,
    rows: slice,
    keys: slice,
    mask: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    levels: tuple[torch.Tensor, ...],
) -> torch.Tensor:
    """One tile, −inf where a key is hidden."""
    scores = torch.bmm(q[:, rows], k[:, keys].mT)
    if ctx.cap is not None:
        scores.div_(ctx.cap).tanh_().mul_(ctx.cap)
    if levels:
        scores.add_(_steps(ctx.tiling, rows, keys, levels, q.dtype))
    allowed = ctx.tiling.allowed(rows, keys, mask)
    return scores if allowed is None else scores.masked_fill_(~allowed, -torch.inf)


def _steps(
    tiling: Tiling,
    rows: slice,
    keys: slice,
    levels: tuple[torch.Tensor, ...],
    dtype: torch.dtype,
) -> torch.Tensor:
    """The level of each row minus that of each key, or the other way round, (B·H, r, n).

    Levels are large, differences that weigh anything small: they are taken before any rounding.
    """
    steps = (levels[0][:, rows, None] - levels[1][:, None, keys]).to(dtype)
    return _signed(tiling, rows, keys, steps)


def _signed(tiling: Tiling, rows: slice, keys: slice, values: torch.Tensor) -> torch.Tensor:
    """Negated where the key comes after the query."""
    past = tiling.causal or tiling.past(rows, keys)
    if isinstance(past, torch.Tensor):
        return torch.where(past, values, -values)
    return values if past else -values


def _add_into_levels(
    ctx: Any,
    rows: slice,
    keys: slice,
    into_scores: torch.Tensor,
    into_levels: list[torch.Tensor],
) -> None:
    signed = _signed(ctx.tiling, rows, keys, into_scores)
    into_levels[0][:, rows] += signed.sum(-1)
    into_levels[1][:, keys] -= signed.sum(-2)
