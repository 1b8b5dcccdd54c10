"""Attention of blocks of queries, each over few keys: a band, or keys that are given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from bakeoff.plugins.attention._parts import Part, hidden_score

__all__ = ["attention_in_blocks", "attention_to_given", "banded_attention", "neighbour_attention"]

#: Queries in a block. A block reads BLOCK + before + after keys: small blocks waste little of that,
#: large ones make the better matrix products; 64 was the best of 32, 64 and 128.
BLOCK = 64
#: Scores held at once on a CPU: 1 MiB in float32, so that they stay in the second cache.
SCORES = 2**18


def banded_attention(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    before: int,
    after: int,
    keys: torch.Tensor | None = None,
    scale: float | None = None,
    bias: torch.Tensor | None = None,
) -> Part:
    """Softmax attention of the query at place p over the keys from p − before to p + after.

    Places are aligned at the lower right. Scores exist for a few blocks at a time, and the backward
    computes them again: time and memory grow with the length alone.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        before: Keys that a query sees before its own place.
        after: Keys that it sees after it.
        keys: Bool, broadcasts to (B, H, 1, Nk), True where a key may be seen.
        scale: What the scores are multiplied with; None for 1/√D.
        bias: Added to the scores of every head by distance, (H, before + after + 1); first the key
            that lies farthest before.
    """
    q_len, k_len = q.shape[2], k.shape[2]
    reach = before + after + 1
    # No key lies farther away than these; what is cut off from the bias is never looked up.
    near, far = min(before, max(0, k_len - 1)), min(after, max(0, q_len - 1))
    block = max(1, min(BLOCK, q_len))
    width = block + near + far
    wide = torch.promote_types(q.dtype, torch.float32)
    if bias is not None:
        bias = bias[:, before - near : reach - after + far].to(wide)
    placed = _by_place(bias, block, width, q.device, wide)
    first = k_len - q_len - near
    return attention_in_blocks(q, k, v, placed, first, key_bias=_key_bias(keys, wide), scale=scale)


def neighbour_attention(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    *,
    block: int,
    causal: bool,
    keys: torch.Tensor | None = None,
    scale: float | None = None,
) -> Part:
    """The same for blocks of places, the first at place 0: each sees itself and both neighbours.

    With ``causal`` a query sees the block before its own, and its own up to itself.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    offset = k.shape[2] - q.shape[2]
    skipped = offset % block  # rows of the first block that come before the first query
    width = 2 * block if causal else 3 * block
    placed = torch.zeros(1, block, width, dtype=wide, device=q.device)
    if causal:
        future = torch.ones_like(placed, dtype=torch.bool).triu(block + 1)
        placed = placed.masked_fill(future, hidden_score(wide))
    first = offset - skipped - block
    bias = _key_bias(keys, wide)
    return attention_in_blocks(q, k, v, placed, first, skipped, key_bias=bias, scale=scale)


def attention_in_blocks(
    q: torch.Tensor,  # (B, H, Nq, D)
    k: torch.Tensor,  # (B, H, Nk, D)
    v: torch.Tensor,  # (B, H, Nk, Dv)
    bias: torch.Tensor,
    first: int,
    skipped: int = 0,
    *,
    key_bias: torch.Tensor | None = None,
    scale: float | None = None,
) -> Part:
    """Blocks of queries, each against the keys from its first one on.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        bias: Added to the scores of each query of a block and each key that the block reads,
            (H or 1, block, width), in the dtype of the computation.
        first: The first key of the first block; before key 0 come negative places, unseen.
        skipped: Rows of padding in the first block, before its queries.
        key_bias: Added to the scores of a key, without a gradient, (B or 1, H or 1, 1, Nk).
        scale: What the scores are multiplied with; None for 1/√D.
    """
    batch, heads, q_len, dim = q.shape
    k_len, wide = k.shape[2], bias.dtype
    block, width = bias.shape[1:]
    blocks = max(1, -(-(skipped + q_len) // block))
    pad = (-first, first + (blocks - 1) * block + width - k_len)  # negative padding cuts off
    if key_bias is None:
        key_bias = torch.zeros(1, 1, 1, k_len, dtype=wide, device=q.device)
    hidden = key_bias.expand(batch, heads, 1, k_len).flatten(0, 2)
    hidden = F.pad(hidden, pad, value=hidden_score(wide))  # (B·H, padded)
    output, total = _Banded.apply(  # type: ignore[no-untyped-call]
        _padded(q.to(wide), skipped, blocks * block - skipped - q_len).view(
            batch * heads, blocks, block, dim
        ),
        _padded(k.to(wide), *pad),
        _padded(v.to(wide), *pad),
        bias.expand(batch, heads, block, width).flatten(0, 1),
        hidden,
        1 / math.sqrt(dim) if scale is None else scale,
        block,
    )
    rows = slice(skipped, skipped + q_len)
    shape = (batch, heads, blocks * block)
    return output.view(*shape, v.shape[3])[:, :, rows], total.view(*shape, 1)[:, :, rows]


def attention_to_given(
    q: torch.Tensor,  # (B, H, blocks, block, D)
    k: torch.Tensor,  # (B, H, blocks or 1, width, D)
    v: torch.Tensor,  # (B, H, blocks or 1, width, Dv)
    *,
    seen: torch.Tensor | None = None,
    scale: float | None = None,
) -> Part:
    """Blocks of queries, each against keys given for it, or all against the same.

    ``seen`` is bool, (B or 1, H or 1, blocks or 1, width). Results are (B, H, blocks, block, …).
    """
    batch, heads, blocks, block, dim = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    given, width = k.shape[2:4]
    hidden = torch.zeros(batch, heads, given, width, dtype=wide, device=q.device)
    if seen is not None:
        hidden = hidden.masked_fill(~seen, hidden_score(wide))
    output, total = _Banded.apply(  # type: ignore[no-untyped-call]
        q.to(wide).flatten(0, 1),
        k.to(wide).flatten(0, 1).flatten(1, 2),
        v.to(wide).flatten(0, 1).flatten(1, 2),
        hidden.new_zeros(1, 1, 1).expand(batch * heads, block, width),
        hidden.flatten(0, 1).flatten(1, 2),
        1 / math.sqrt(dim) if scale is None else scale,
        width if given == blocks else 0,
    )
    shape = (batch, heads, blocks, block)
    return output.view(*shape, v.shape[4]), total.view(*shape, 1)


def _key_bias(keys: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    if keys is None:
        return None
    keys = keys[(None,) * (4 - keys.dim())]
    return torch.zeros(keys.shape, dtype=dtype, device=keys.device).masked_fill(
        ~keys, hidden_score(dtype)
    )


def _padded(x: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Rows of zeros about (B, H, N, D), or rows cut off where negative, as (B·H, padded, D).

    In one pass: F.pad would fill all of it first.
    """
    x = x[:, :, max(0, -before) : x.shape[2] - max(0, -after)].flatten(0, 1)
    heads, _, dim = x.shape
    parts = [x.new_zeros(heads, max(0, rows), dim) for rows in (before, after)]
    return torch.cat([parts[0], x, parts[1]], 1) if before > 0 or after > 0 else x


def _by_place(
    bias: torch.Tensor | None, block: int, width: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """The bias of each query of a block and each key that the block reads, (H or 1, block, width).

    Out of reach is hidden.
    """
    distance = torch.arange(width, device=device) - torch.arange(block, device=device)[:, None]
    reach = width - block + 1
    within = (distance >= 0) & (distance < reach)
    if bias is None:
        bias = torch.zeros(1, reach, device=device, dtype=dtype)
    placed = bias[:, distance.clamp(0, reach - 1)]
    return placed.masked_fill(~within, hidden_score(dtype))


class _Banded(torch.autograd.Function):
    """Blocks of queries against windows of keys that may overlap, read through strided views.

    q (B·H, blocks, block, D); k and v (B·H, padded, D or Dv), where block b reads the rows from
    b · step on; bias (B·H, block, width); hidden (B·H, padded), added to the scores too.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        bias: torch.Tensor,
        hidden: torch.Tensor,
        scale: float,
        step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        blocks, width = q.shape[1], bias.shape[2]
        output = q.new_empty(*q.shape[:3], v.shape[-1])
        total = q.new_empty(*q.shape[:3], 1)
        windows = _windows(v, step, width, blocks)
        for at in _groups(q, width):
            scores = _scores(at, q, k, bias, hidden, scale, step)
            largest = scores.amax(-1, keepdim=True)
            weights = scores.softmax(-1)
            # The largest weight is exp(largest − total).
            total[at] = largest - weights.amax(-1, keepdim=True).log()
            torch.bmm(weights, windows[at], out=output[at])
        output.masked_fill_(_is_hidden(total), 0.0)
        ctx.save_for_backward(q, k, v, bias, hidden, output, total)
        ctx.scale, ctx.step = scale, step
        ctx.set_materialize_grads(False)
        return output, total

    @staticmethod
    def backward(
        ctx: Any, d_output: torch.Tensor | None, d_total: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        q, k, v, bias, hidden, output, total = ctx.saved_tensors
        blocks, width, step = q.shape[1], bias.shape[2], ctx.step
        if torch.is_grad_enabled():  # a second derivative may follow, through autograd alone
            return *_gradients(ctx, d_output, d_total), None, None, None
        alone = _is_hidden(total)
        d_output = torch.zeros_like(output) if d_output is None else d_output
        d_output = d_output.masked_fill(alone, 0.0)
        # The gradient of a score is its weight times dP − shift.
        shift = (d_output * output).sum(-1, keepdim=True)
        if d_total is not None:
            shift -= d_total.masked_fill(alone, 0.0)
        d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_bias = torch.zeros_like(bias) if ctx.needs_input_grad[3] else None
        k_windows, v_windows = (_windows(x, step, width, blocks) for x in (k, v))
        for at in _groups(q, width):
            weights = _scores(at, q, k, bias, hidden, ctx.scale, step).softmax(-1)
            _add_windows(d_v, at, torch.bmm(weights.mT, d_output[at]), step)
            d_scores = torch.bmm(d_output[at], v_windows[at].mT).sub_(shift[at]).mul_(weights)
            if d_bias is not None:
                d_bias[at[0]] += d_scores.sum(0) if isinstance(at[0], int) else d_scores
            torch.bmm(d_scores, k_windows[at], out=d_q[at])
            _add_windows(d_k, at, torch.bmm(d_scores.mT, q[at]), step)
        return d_q.mul_(ctx.scale), d_k.mul_(ctx.scale), d_v, d_bias, None, None, None


def _gradients(
    ctx: Any, d_output: torch.Tensor | None, d_total: torch.Tensor | None
) -> list[torch.Tensor | None]:
    """Those of q, k, v and bias, with a graph of their own."""
    q, k, v, bias, hidden, _, _ = ctx.saved_tensors
    output, total = _all_at_once(q, k, v, bias, hidden, ctx.scale, ctx.step)
    into = [(x, d_x) for x, d_x in ((output, d_output), (total, d_total)) if d_x is not None]
    sources = (q, k, v, bias)
    needed = [place for place in range(4) if ctx.needs_input_grad[place]]
    found = torch.autograd.grad(
        [x for x, _ in into],
        [sources[place] for place in needed],
        [d_x for _, d_x in into],
        create_graph=True,
        allow_unused=True,
    )
    gradients = dict(zip(needed, found, strict=True))
    return [gradients.get(place) for place in range(4)]


def _all_at_once(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    hidden: torch.Tensor,
    scale: float,
    step: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``_Banded`` computes, as autograd can follow it: the scores of all blocks are kept."""
    blocks, width = q.shape[1], bias.shape[2]
    keys, values, hides = (_windows(x, step, width, blocks) for x in (k, v, hidden[..., None]))
    scores = q @ keys.mT * scale + bias[:, None] + hides.mT
    total = scores.logsumexp(-1, keepdim=True)
    alone = _is_hidden(total)
    output = ((scores - total).exp() @ values).masked_fill(alone, 0.0)
    return output, torch.where(alone, total.detach(), total)


def _windows(x: torch.Tensor, step: int, width: int, blocks: int) -> torch.Tensor:
    """(B·H, padded, D) -> (B·H, blocks, width, D), a view; one window for all where step is 0."""
    return x.unfold(1, width, step).mT if step else x[:, None].expand(-1, blocks, -1, -1)


def _groups(q: torch.Tensor, width: int) -> Iterator[tuple[int | slice, int | slice]]:
    """Indices of blocks that are computed at once: of one head, or at one place of many heads."""
    heads, blocks, block = q.shape[:3]
    # Elsewhere few large steps are better: each is a launch, and a compiler unrolls the loop.
    cached = q.device.type == "cpu" and not torch.compiler.is_compiling()
    size = max(1, (SCORES if cached else 256 * SCORES) // (block * width))
    if blocks >= heads:
        for head in range(heads):
            for start in range(0, blocks, size):
                yield head, slice(start, start + size)
    else:
        for place in range(blocks):
            for start in range(0, heads, size):
                yield slice(start, start + size), place


def _scores(
    at: tuple[int | slice, int | slice],
    q: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    hidden: torch.Tensor,
    scale: float,
    step: int,
) -> torch.Tensor:
    block, width = bias.shape[1:]
    keys, hides = (_windows(x, step, width, q.shape[1])[at] for x in (k, hidden[..., None]))
    added = bias[at[0]].expand(keys.shape[0], block, width)
    return torch.baddbmm(added, q[at], keys.mT, alpha=scale).add_(hides.mT)


def _add_windows(
    sums: torch.Tensor, at: tuple[int | slice, int | slice], windows: torch.Tensor, step: int
) -> None:
    """Add windows (…, width, D) where they were read; within a stretch at a time none overlap."""
    if step == 0:
        sums[at[0]] += windows.sum(0) if isinstance(at[0], int) else windows
        return
    width = windows.shape[1]
    blocks = (sums.shape[1] - width) // step + 1
    for start in range(0, width, step):
        part = windows[:, start : start + step]
        stretch = sums[:, start : start + (blocks - 1) * step + part.shape[1]]
        _windows(stretch, step, part.shape[1], blocks)[at] += part


def _is_hidden(total: torch.Tensor) -> torch.Tensor:
    return total < hidden_score(total.dtype) / 2
