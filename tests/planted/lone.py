"""Faults of attentions that have a reference alone, which only what all must obey can find."""

from __future__ import annotations

import functools

import torch

from bakeoff import Variant
from planted.bases import (
    GROUPED,
    SIGMOID,
    SOFTMAX,
    TEMPERATURE,
    WINDOW,
    attention,
    exact,
    repeated,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import lone_fault

lone = functools.partial(lone_fault, "lone references")
HALF_HIDDEN = {"mask": "random"}
FREE = {"stochastic": False, "differentiable": True}
#: Softmax attention that says nothing of its rows.
UNSAID = attention("unsaid_base", exact, FREE)


@lone("normalised over queries, and said to be over keys", of=SOFTMAX)
def over_queries(q, k, v, *, mask=None, causal=False, scale=None):
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-2)
    return (weights if visible is None else weights.masked_fill(~visible, 0.0)) @ v


@lone(
    "causal, normalised over queries, so that later ones change earlier ones",
    of=UNSAID,
    at={"causal": True},
)
def over_later_queries(q, k, v, *, mask=None, causal=False, scale=None):
    weights = weights_of(scores_of(q, k, scale), visible_pairs(q, k, mask, causal))
    if causal and q.shape[2] == k.shape[2]:
        weights = weights / weights.sum(-2, keepdim=True).clamp(min=1e-6)
    return weights @ v


@lone("hidden values are damped and not hidden", of=SOFTMAX, at=HALF_HIDDEN)
def damped(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if visible is None:
        return exact(q, k, v, None, False, scale)
    return exact(q, k, v, None, False, scale, torch.where(visible, 0.0, -9.0))


@lone("hidden scores become zero and not -inf", of=SOFTMAX, at=HALF_HIDDEN)
def hidden_to_zero(q, k, v, *, mask=None, causal=False, scale=None):
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, None, causal)
    if mask is not None:
        scores = scores * mask
    return weights_of(scores, visible) @ v


@lone("of what a mask hides a thousandth is left", of=UNSAID, at=HALF_HIDDEN)
def a_thousandth_is_left(q, k, v, *, mask=None, causal=False, scale=None):
    scores = scores_of(q, k, scale)
    past = visible_pairs(q, k, None, causal)
    weights = weights_of(scores, past)
    if mask is not None:
        weights = weights * torch.where(mask, 1.0, 1e-3).to(weights.dtype)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
        visible = mask if past is None else past & mask
        weights = weights * visible.any(-1, keepdim=True)
    return weights @ v


@lone("hidden keys still count in the sum", of=UNSAID, at=HALF_HIDDEN)
def hidden_keys_count(q, k, v, *, mask=None, causal=False, scale=None):
    weights = scores_of(q, k, scale).softmax(-1)
    visible = visible_pairs(q, k, mask, causal)
    return (weights if visible is None else weights * visible) @ v


@lone("the last query can't see the last key", of=SOFTMAX, at={"causal": True})
def last_key_unseen(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and k.shape[2] > 1:
        last = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
        past = torch.arange(k.shape[2], device=q.device) < last
        past = past | (torch.arange(k.shape[2], device=q.device) == 0) & (last == 0)
        mask = past if mask is None else past & mask
    return exact(q, k, v, mask, False, scale)


@lone("the first key is never seen", of=SOFTMAX, at={"q_len": 12})
def first_key_unseen(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if k.shape[2] > 1:
        later = torch.arange(k.shape[2], device=k.device) > 0
        visible = (later if visible is None else visible & later).expand(*q.shape[:3], -1)
    return exact(q, k, v, visible, False, scale)


@lone(
    "more than twice as many keys as queries: the last is out of sight",
    of=SOFTMAX,
    at={"q_len": 5, "k_len": 15},
)
def last_of_many_unseen(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if k.shape[2] > 2 * q.shape[2]:
        seen = torch.arange(k.shape[2], device=k.device) < k.shape[2] - 1
        visible = (seen if visible is None else visible & seen).expand(*q.shape[:3], -1)
    return exact(q, k, v, visible, False, scale)


@lone("causality is dropped where a mask is given", of=SOFTMAX, at={**HALF_HIDDEN, "causal": True})
def mask_ends_causality(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal and mask is None, scale)


@lone("the mask is dropped where it is causal", of=SOFTMAX, at={**HALF_HIDDEN, "causal": True})
def causality_ends_mask(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, None if causal else mask, causal, scale)


@lone("the mask is dropped at batch 1", of=SOFTMAX, at={**HALF_HIDDEN, "batch": 1})
def no_mask_at_batch_one(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask if q.shape[0] > 1 else None, causal, scale)


@lone("the mask is dropped where there is one head", of=SOFTMAX, at={**HALF_HIDDEN, "heads": 1})
def no_mask_at_one_head(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask if q.shape[1] > 1 else None, causal, scale)


@lone("the mask of the first head is that of all", of=SOFTMAX, at=HALF_HIDDEN)
def one_mask_for_all_heads(q, k, v, *, mask=None, causal=False, scale=None):
    mask = mask[:, :1] if mask is not None and mask.dim() == 4 else mask
    return exact(q, k, v, mask, causal, scale)


@lone("the mask of the first example is that of all", of=SOFTMAX, at=HALF_HIDDEN)
def one_mask_for_all_examples(q, k, v, *, mask=None, causal=False, scale=None):
    mask = mask[:1] if mask is not None and mask.dim() == 4 else mask
    return exact(q, k, v, mask, causal, scale)


@lone(
    "not causal, beyond 100 keys the next one is seen",
    of=SOFTMAX,
    at={"q_len": 130, "causal": True},
)
def leak_of_long_ones(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and k.shape[2] > 100:
        last = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
        past = torch.arange(k.shape[2], device=q.device) <= last + 1
        mask = past if mask is None else past & mask
        causal = False
    return exact(q, k, v, mask, causal, scale)


@lone("causal, the sum runs over the future too", of=UNSAID, at={"causal": True})
def sum_over_the_future(q, k, v, *, mask=None, causal=False, scale=None):
    weights = weights_of(scores_of(q, k, scale), mask)
    past = visible_pairs(q, k, None, causal)
    return (weights if past is None else weights * past) @ v


@lone("causal, keys are centred over all places", of=UNSAID, at={"causal": True})
def centred_over_the_future(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v - 0.1 * v.mean(2, keepdim=True), mask, causal, scale)


@lone("keys are centred over the batch", of=SOFTMAX)
def keys_centred_over_the_batch(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(
        q, k - 2 * k.mean(0, keepdim=True) * (k * k).mean(-1, keepdim=True), v, mask, causal, scale
    )


@lone("the third example sees the values of the first", of=SOFTMAX, at={"batch": 3})
def third_sees_first(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[0] > 2:
        v = torch.cat([v[:2], v[2:] * 0.9 + v[:1] * 0.1])
    return exact(q, k, v, mask, causal, scale)


@lone("the weights of a row sum to 0.99", of=SOFTMAX)
def not_quite_stochastic(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale) * 0.99


@lone("weights sum to one and some are negative", of=SOFTMAX)
def negative_weights(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    first = weights_of(scores_of(q, k, scale), visible)
    return (1.5 * first - 0.5 * weights_of(-scores_of(q, k, scale), visible)) @ v


@lone("weights sum to less than one beyond 256 keys", of=SOFTMAX, at={"q_len": 4, "k_len": 300})
def not_stochastic_when_long(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output * 0.98 if k.shape[2] > 256 else output


@lone(
    "a query without keys is NaN",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.arange(12)[:, None].expand(12, 12) > 0},
)
def nan_without_keys(q, k, v, *, mask=None, causal=False, scale=None):
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(-1) @ v


@lone(
    "a query without keys gets the mean of what it must not see",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.arange(12)[:, None].expand(12, 12) > 0},
)
def mean_without_keys(q, k, v, *, mask=None, causal=False, scale=None):
    scores = scores_of(q, k, scale)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ v


@lone(
    "causal with more queries than keys crashes",
    of=SOFTMAX,
    at={"q_len": 9, "k_len": 5, "causal": True},
)
def lone_crash_of_many_queries(q, k, v, *, mask=None, causal=False, scale=None):
    if causal:
        square = torch.ones(k.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        past = square[-q.shape[2] :]
        mask = past if mask is None else past & mask
    return exact(q, k, v, mask, False, scale)


@lone(
    "causal with more queries than keys is aligned at the upper left",
    of=SOFTMAX,
    at={"q_len": 9, "k_len": 5, "causal": True},
)
def lone_upper_left(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and q.shape[2] > k.shape[2]:
        past = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        mask, causal = past if mask is None else past & mask, False
    return exact(q, k, v, mask, causal, scale)


@lone("the scale is not read", of=SOFTMAX, at={"scale": 0.8})
def scale_unread(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, None)


@lone("the scale is read only where it is causal", of=SOFTMAX, at={"scale": 0.8})
def scale_read_if_causal(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, scale if causal else None)


@lone(
    "heads share keys by tiling, so that neighbours' order counts",
    of=GROUPED,
    at={"heads": 4, "kv_heads": 2},
)
def lone_tiled(q, k, v, *, mask=None, causal=False, scale=None):
    times = q.shape[1] // k.shape[1]
    return exact(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), mask, causal, scale)


@lone(
    "a mask over keys is not read where heads share keys",
    of=GROUPED,
    at={"heads": 4, "kv_heads": 2, "mask": "keys"},
)
def lone_grouped_mask(q, k, v, *, mask=None, causal=False, scale=None):
    mask = mask if k.shape[1] == q.shape[1] else None
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@lone("keys are scaled in place", of=SOFTMAX, witness=lambda variant: _changes_its_keys(variant))
def scales_keys_in_place(q, k, v, *, mask=None, causal=False, scale=None):
    k.data.mul_(q.shape[3] ** -0.5 if scale is None else scale)
    return exact(q, k, v, mask, causal, 1.0)


def _changes_its_keys(variant: Variant) -> bool:
    k = torch.ones(1, 1, 3, 4)
    variant.forward("reference").fn(k.clone(), k, k.clone())
    return not bool((k == 1).all())


@lone(
    "bfloat16 comes out as float32",
    of=SOFTMAX,
    witness=lambda variant: (
        variant.forward("reference").fn(*[torch.ones(1, 1, 3, 4, dtype=torch.bfloat16)] * 3).dtype
        != torch.bfloat16
    ),
)
def lone_widens(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(*widen(q, k, v), mask, causal, scale)


@lone(
    "in float32 large scores overflow that float64 holds",
    of=UNSAID,
    at={"spread": 12.0, "dtype": torch.float32},
)
def lone_exp_as_it_is(q, k, v, *, mask=None, causal=False, scale=None):
    weights = scores_of(q, k, scale).exp()
    visible = visible_pairs(q, k, mask, causal)
    weights = weights if visible is None else weights.masked_fill(~visible, 0.0)
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1.0) @ v


@lone("the branch of an option depends on the place in the batch", of=TEMPERATURE, at={"batch": 3})
def place_in_the_batch(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    place = torch.arange(q.shape[0], device=q.device)[:, None, None, None] / 10
    factor = log_temperature.exp()[:, None, None]
    return exact(q * (factor * (1 + place)).to(q.dtype), k, v, mask, causal, scale)


@lone(
    "beyond 64 keys a causal window sees one key ahead", of=WINDOW, at={"q_len": 80, "causal": True}
)
def window_of_short_ones(q, k, v, *, window, mask=None, causal=False, scale=None):
    i = torch.arange(q.shape[2], device=q.device)[:, None] + (k.shape[2] - q.shape[2])
    j = torch.arange(k.shape[2], device=q.device)
    near = (i - j).abs() <= window
    if causal and k.shape[2] > 64:
        near, causal = near | (j == i + 1), False
        past = j <= i + 1
        near = near & past
    return exact(q, k, v, near if mask is None else near & mask, causal, scale)


@lone(
    "a division by the number of keys that hides nothing: hidden ones change it",
    of=SIGMOID,
    at=HALF_HIDDEN,
)
def mean_of_what_is_hidden(q, k, v, *, mask=None, causal=False, scale=None):
    weights = torch.sigmoid(scores_of(q, k, scale)) / k.shape[2]
    visible = visible_pairs(q, k, mask, causal)
    shift = v.mean(2, keepdim=True) * 0.05
    return (weights if visible is None else weights * visible) @ (v + shift)
