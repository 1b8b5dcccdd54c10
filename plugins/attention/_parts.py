"""Attention over parts of the keys, merged afterwards as if over all of them at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

__all__ = ["Part", "dense_part", "hidden_score", "interleaved", "merged", "of_residues"]

#: Outputs (B, H, Nq, Dv) of an attention over some of the keys, and the logs of the sums of their
#: exponentials (B, H, Nq, 1), in float32 at least. A query without a key has zeros, and a hidden
#: score.
Part = tuple[torch.Tensor, torch.Tensor]


def hidden_score(dtype: torch.dtype) -> float:
    """A score that weighs nothing beside any other; finite, and so are sums of a few."""
    return torch.finfo(dtype).min / 4


def dense_part(
    q: torch.Tensor,  # (..., Nq, D)
    k: torch.Tensor,  # (..., Nk, D)
    v: torch.Tensor,  # (..., Nk, Dv)
    *,
    allowed: torch.Tensor | None = None,
    scale: float | None = None,
) -> Part:
    """Softmax attention over a few keys, all scores at once; ``allowed`` is bool (..., Nq, Nk)."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = (q.to(wide) * scale) @ k.to(wide).mT
    if allowed is not None:
        scores = scores.masked_fill(~allowed, hidden_score(wide))
    total = scores.logsumexp(-1, keepdim=True)
    output = (scores - total).exp() @ v.to(wide)
    if allowed is not None:
        output = output.masked_fill(total < hidden_score(wide) / 2, 0.0)
    return output, total


def merged(*parts: Part) -> Part:
    """The attention over the keys of all parts together, none of which may be in two."""
    # Not by pairs with logaddexp: where one part is hidden, its second derivative is NaN.
    totals = torch.cat([total for _, total in parts], -1)  # (B, H, Nq, parts)
    weights = totals.softmax(-1).chunk(len(parts), -1)
    output = weights[0] * parts[0][0]
    for weight, (further, _) in zip(weights[1:], parts[1:], strict=True):
        output = torch.addcmul(output, weight, further)
    return output, totals.logsumexp(-1, keepdim=True)


def of_residues(x: torch.Tensor, count: int) -> torch.Tensor:
    """Every count-th row from the last on, for each residue: (B, H, N, D) -> (B, H·count, N', D).

    Rows of zeros come before the first where N is no multiple of ``count``.
    """
    x = F.pad(x, (0, 0, -x.shape[2] % count, 0))
    batch, heads, rows, dim = x.shape
    x = x.reshape(batch, heads, rows // count, count, dim).transpose(2, 3)
    return x.flatten(1, 2)


def interleaved(x: torch.Tensor, count: int, length: int) -> torch.Tensor:
    """The inverse of :func:`of_residues`, for the last ``length`` rows."""
    batch, heads, rows, dim = x.shape
    x = x.reshape(batch, heads // count, count, rows, dim).transpose(2, 3)
    return x.flatten(2, 3)[:, :, -length:]
