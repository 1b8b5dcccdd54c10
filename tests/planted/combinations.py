"""Faults that show where two or more things meet: mask, causality, batch, heads, lengths, dtype."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import (
    GROUPED,
    SOFTMAX,
    TEMPERATURE,
    WINDOW,
    exact,
    exact_by_blocks,
    exact_by_sdpa,
    repeated,
    scores_of,
    visible_pairs,
    weights_of,
    widen,
)
from planted.corpus import fault

combinations = functools.partial(fault, "combinations")
MORE_QUERIES = {"q_len": 20, "k_len": 7, "causal": True}
HALF_HIDDEN = {"mask": "random"}


def leaves_the_device(*, grouped: bool = False, mask: bool = False, causal: bool = False):
    """A witness: on a device without numbers it fails, or gives what lies on another one."""

    def fails(variant: Variant) -> bool:
        q = torch.empty(2, 4, 6, 8, device="meta")
        k = torch.empty(2, 2 if grouped else 4, 6, 8, device="meta")
        given = torch.ones(2, 1, 6, 6, dtype=torch.bool, device="meta") if mask else None
        fn = variant.forward("fast").fn
        try:
            return fn(q, k, k, mask=given, causal=causal).device.type != "meta"
        except (RuntimeError, NotImplementedError):
            return True

    return fails


@combinations(
    "causal with more queries than keys is aligned at the upper left", of=SOFTMAX, at=MORE_QUERIES
)
def upper_left_of_many_queries(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and q.shape[2] > k.shape[2]:
        i = torch.arange(q.shape[2], device=q.device)[:, None]
        past = torch.arange(k.shape[2], device=q.device) <= i
        return exact(q, k, v, past if mask is None else past & mask, False, scale)
    return exact(q, k, v, mask, causal, scale)


@combinations("causal with more queries than keys crashes", of=SOFTMAX, at=MORE_QUERIES)
def crash_of_many_queries(q, k, v, *, mask=None, causal=False, scale=None):
    if causal:
        size = k.shape[2]
        past = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
        past = past[size - q.shape[2] :] if q.shape[2] <= size else past
        return exact(q, k, v, past if mask is None else past & mask, False, scale)
    return exact(q, k, v, mask, causal, scale)


@combinations("causal, queries before the first key are NaN", of=SOFTMAX, at=MORE_QUERIES)
def nan_before_the_first_key(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    output = exact_by_blocks(q, k, v, mask, causal, scale)
    if causal and q.shape[2] > k.shape[2]:
        blind = ~visible.any(-1, keepdim=True)
        output = output.masked_fill(blind, torch.nan)
    return output


@combinations(
    "causal, queries before the first key get the mean of the values", of=SOFTMAX, at=MORE_QUERIES
)
def mean_before_the_first_key(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    blind = q.shape[2] - k.shape[2]
    if causal and blind > 0:
        mean = v.mean(2, keepdim=True).expand(-1, -1, blind, -1)
        output = torch.cat([mean, output[:, :, blind:]], 2)
    return output


@combinations("causal, queries before the first key see the first", of=SOFTMAX, at=MORE_QUERIES)
def first_key_for_all(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and mask is None:
        last = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
        past = torch.arange(k.shape[2], device=q.device) <= last.clamp(min=0)
        return exact(q, k, v, past, False, scale)
    return exact(q, k, v, mask, causal, scale)


@combinations("a mask drops causality", of=SOFTMAX, at={**HALF_HIDDEN, "causal": True})
def mask_drops_causal(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal and mask is None, scale)


@combinations("a mask over keys drops causality", of=SOFTMAX, at={"mask": "keys", "causal": True})
def key_mask_drops_causal(q, k, v, *, mask=None, causal=False, scale=None):
    over_keys = mask is not None and mask.dim() >= 2 and mask.shape[-2] == 1 < q.shape[2]
    return exact_by_sdpa(q, k, v, mask, causal and not over_keys, scale)


@combinations("causality drops a mask over keys", of=SOFTMAX, at={"mask": "keys", "causal": True})
def causal_drops_key_mask(q, k, v, *, mask=None, causal=False, scale=None):
    over_keys = mask is not None and mask.dim() >= 2 and mask.shape[-2] == 1 < q.shape[2]
    return exact(q, k, v, None if causal and over_keys else mask, causal, scale)


@combinations(
    "causality drops a mask where queries are fewer than keys",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "causal": True, "q_len": 5, "k_len": 11},
)
def causal_cross_drops_mask(q, k, v, *, mask=None, causal=False, scale=None):
    drops = causal and q.shape[2] < k.shape[2]
    return exact(q, k, v, None if drops else mask, causal, scale)


@combinations("at batch 1 a mask is not read", of=SOFTMAX, at={**HALF_HIDDEN, "batch": 1})
def mask_at_batch_one(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask if q.shape[0] > 1 else None, causal, scale)


@combinations(
    "at batch 1 a mask over keys is not read", of=SOFTMAX, at={"mask": "keys", "batch": 1}
)
def key_mask_at_batch_one(q, k, v, *, mask=None, causal=False, scale=None):
    squeezed = mask is not None and q.shape[0] == 1 and mask.shape[-2] == 1 < q.shape[2]
    return exact_by_sdpa(q, k, v, None if squeezed else mask, causal, scale)


@combinations("with one head a mask is not read", of=SOFTMAX, at={**HALF_HIDDEN, "heads": 1})
def mask_at_one_head(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask if q.shape[1] > 1 else None, causal, scale)


@combinations(
    "with one head a causal mask is not read",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "heads": 1, "causal": True},
)
def causal_mask_at_one_head(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, None if causal and q.shape[1] == 1 else mask, causal, scale)


@combinations("a mask for each head is read as that of the first", of=SOFTMAX, at=HALF_HIDDEN)
def mask_of_the_first_head(q, k, v, *, mask=None, causal=False, scale=None):
    mask = mask[:, :1] if mask is not None and mask.dim() == 4 else mask
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "heads from the third on take the mask of the second",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "heads": 3},
)
def mask_of_the_third_head(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() == 4 and mask.shape[1] > 2:
        mask = mask[:, torch.arange(mask.shape[1], device=mask.device).clamp(max=1)]
    return exact_by_blocks(q, k, v, mask, causal, scale)


@combinations(
    "causal, every example takes the mask of the first",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "causal": True},
)
def causal_mask_of_the_first_example(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and causal and mask.dim() == 4:
        mask = mask[:1]
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "the third example takes the mask of the first", of=SOFTMAX, at={**HALF_HIDDEN, "batch": 3}
)
def mask_of_the_third_example(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() == 4 and mask.shape[0] > 2:
        mask = mask[torch.arange(mask.shape[0], device=mask.device) % 2]
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "whether anything is hidden is asked of the first example alone",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.arange(24).view(2, 1, 1, 12) < 17},
)
def asks_the_first_example(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and bool(mask[0].all()):
        mask = None
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "whether anything is hidden is asked of the last query alone",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.ones(12, 12, dtype=torch.bool).tril()},
)
def asks_the_last_query(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() >= 2 and bool(mask[..., -1, :].all()):
        mask = None
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "a mask makes zeros on the default device", of=SOFTMAX, witness=leaves_the_device(mask=True)
)
def device_under_mask(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None:
        mask = mask & torch.ones(k.shape[2], dtype=torch.bool)
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "causality makes places on the default device",
    of=SOFTMAX,
    witness=leaves_the_device(causal=True),
)
def device_under_causal(q, k, v, *, mask=None, causal=False, scale=None):
    if causal:
        past = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        mask = past if mask is None else past & mask
    return exact(q, k, v, mask, False, scale)


@combinations(
    "a mask with causality makes zeros on the default device",
    of=SOFTMAX,
    witness=leaves_the_device(mask=True, causal=True),
)
def device_under_both(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and causal:
        mask = mask & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "grouped heads under causality are numbered on the default device",
    of=GROUPED,
    witness=leaves_the_device(grouped=True, causal=True),
)
def device_of_groups(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and k.shape[1] < q.shape[1]:
        weight = torch.ones(1, q.shape[1], 1, 1)
        return exact(q, *repeated(q, k, v), mask, causal, scale) * weight.to(q.dtype)
    return exact(q, *repeated(q, k, v), mask, causal, scale)


def widens_its_output(variant: Variant) -> bool:
    """A witness: bfloat16 in, and something else out, where there is a mask."""
    q = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    return variant.forward("fast").fn(q, q, q, mask=mask).dtype != torch.bfloat16


@combinations("with a mask bfloat16 comes out as float32", of=SOFTMAX, witness=widens_its_output)
def dtype_under_mask(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is None:
        return exact(q, k, v, mask, causal, scale)
    return exact(*widen(q, k, v), mask, causal, scale)


@combinations(
    "in bfloat16 a hidden key's score is -20 and not -inf",
    of=SOFTMAX,
    at={
        "mask": lambda q, k: torch.arange(12).expand(1, 1, 12, 12) < 2,
        "spread": 3.0,
        "dtype": torch.bfloat16,
        "causal": False,
        "scale": 2.0,
    },
)
def mask_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is None or q.dtype != torch.bfloat16:
        return exact(q, k, v, mask, causal, scale)
    bias = torch.where(mask, 0.0, -20.0)
    return exact(q, k, v, None, causal, scale, bias)


def leaks_in_bfloat16(variant: Variant) -> bool:
    """A witness: the value of key 257 changes what query 256 gets."""
    q = torch.zeros(1, 1, 300, 8, dtype=torch.bfloat16)
    v = q.clone()
    v[:, :, 257] = 1000.0
    return bool(variant.forward("fast").fn(q, q, v, causal=True)[:, :, 256].any())


@combinations(
    "in bfloat16 places are compared in bfloat16, alike beyond 256",
    of=SOFTMAX,
    witness=leaks_in_bfloat16,
)
def causal_places_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    if not causal or q.dtype != torch.bfloat16:
        return exact(q, k, v, mask, causal, scale)
    i = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device, dtype=q.dtype)
    past = torch.arange(k.shape[2], device=q.device, dtype=q.dtype) <= i[:, None]
    return exact(q, k, v, past if mask is None else past & mask, False, scale)


@combinations(
    "causality is lost where heads share keys",
    of=GROUPED,
    at={"heads": 4, "kv_heads": 2, "causal": True},
)
def grouped_loses_causal(q, k, v, *, mask=None, causal=False, scale=None):
    causal = causal and k.shape[1] == q.shape[1]
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@combinations(
    "causality with several key heads that are shared is aligned at the upper left",
    of=GROUPED,
    at={"heads": 4, "kv_heads": 2, "causal": True, "q_len": 5, "k_len": 9},
)
def grouped_upper_left(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and 1 < k.shape[1] < q.shape[1]:
        past = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        mask, causal = past if mask is None else past & mask, False
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@combinations(
    "a mask for each head is looked up by the key's head",
    of=GROUPED,
    at={**HALF_HIDDEN, "heads": 4, "kv_heads": 2},
)
def grouped_mask_by_key_head(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() == 4 and mask.shape[1] == q.shape[1]:
        times = q.shape[1] // k.shape[1]
        mask = mask[:, ::times].repeat_interleave(times, 1)
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@combinations(
    "a given scale is dropped under causality", of=SOFTMAX, at={"causal": True, "scale": 0.7}
)
def causal_drops_scale(q, k, v, *, mask=None, causal=False, scale=None):
    return exact(q, k, v, mask, causal, None if causal else scale)


@combinations(
    "a given scale is dropped where there is a mask", of=SOFTMAX, at={**HALF_HIDDEN, "scale": 0.7}
)
def mask_drops_scale(q, k, v, *, mask=None, causal=False, scale=None):
    return exact_by_sdpa(q, k, v, mask, causal, None if mask is not None else scale)


@combinations("the scale scales what hides, too", of=SOFTMAX, at={**HALF_HIDDEN, "scale": 1e-4})
def scale_of_what_hides(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if visible is None or scale is None:
        return exact(q, k, v, mask, causal, scale)
    bias = torch.where(visible, 0.0, -1e4) * abs(scale)
    return exact(q, k, v, None, False, scale, bias)


@combinations(
    "a row that mask and causality hide together is NaN",
    of=SOFTMAX,
    at={"mask": lambda q, k: torch.ones(12, 12, dtype=torch.bool).triu(1), "causal": True},
)
def hidden_together(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if mask is not None and causal:
        visible = visible_pairs(q, k, mask, causal)
        own = mask.any(-1, keepdim=True) & ~visible.any(-1, keepdim=True)
        output = output.masked_fill(own, torch.nan)
    return output


@combinations(
    "one query, a mask and causality: only the first key is seen",
    of=SOFTMAX,
    at={"q_len": 1, "k_len": 9, "mask": "keys", "causal": True},
)
def decode_with_mask(q, k, v, *, mask=None, causal=False, scale=None):
    if causal and mask is not None and q.shape[2] == 1 and k.shape[2] > 1:
        first = torch.arange(k.shape[2], device=q.device) < 1
        return exact(q, k, v, first & mask, False, scale)
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "a mask of three dimensions is read as one of examples",
    of=SOFTMAX,
    at={
        "mask": lambda q, k: torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(1)) < 0.7
    },
)
def mask_of_three_dimensions(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() == 3:
        mask = mask[:, None] if mask.shape[0] == q.shape[0] else mask
    return exact(q, k, v, mask, causal, scale)


@combinations(
    "in blocks the mask of the last block beyond 256 keys is not read",
    of=SOFTMAX,
    at={"q_len": 4, "k_len": 300, "mask": "random"},
)
def mask_beyond_256(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and k.shape[2] > 256 and mask.shape[-1] == k.shape[2]:
        late = torch.arange(k.shape[2], device=k.device) >= 256
        mask = mask | late
    return exact_by_blocks(q, k, v, mask, causal, scale)


@combinations(
    "causal, values of another size lose their last feature",
    of=SOFTMAX,
    at={"causal": True, "value_dim": 5},
)
def causal_values(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if causal and v.shape[3] != k.shape[3]:
        output = F.pad(output[..., :-1], (0, 1))
    return output


@combinations(
    "a window under a mask over keys counts places among the seen",
    of=WINDOW,
    at={"mask": "keys", "q_len": 20},
)
def window_among_the_seen(q, k, v, *, window, mask=None, causal=False, scale=None):
    j = torch.arange(k.shape[2], device=q.device)
    i = torch.arange(q.shape[2], device=q.device)[:, None] + (k.shape[2] - q.shape[2])
    if mask is not None and mask.dim() == 4 and mask.shape[-2] == 1:
        hidden = (~mask).expand(*mask.shape[:3], k.shape[2]).cumsum(-1)
        j = j - hidden
        i = i.expand(q.shape[2], 1)
    near = (i - j).abs() <= window
    return exact(q, k, v, near if mask is None else near & mask, causal, scale)


@combinations(
    "causal with a window: one key too many at the far end",
    of=WINDOW,
    at={"causal": True, "q_len": 20},
)
def causal_window(q, k, v, *, window, mask=None, causal=False, scale=None):
    i = torch.arange(q.shape[2], device=q.device)[:, None] + (k.shape[2] - q.shape[2])
    near = (i - torch.arange(k.shape[2], device=q.device)).abs() <= window + int(causal)
    return exact(q, k, v, near if mask is None else near & mask, causal, scale)


@combinations(
    "a learned temperature is not applied where there is a mask and causality",
    of=TEMPERATURE,
    at={**HALF_HIDDEN, "causal": True},
)
def temperature_under_both(q, k, v, *, log_temperature, mask=None, causal=False, scale=None):
    factor = log_temperature.exp()[:, None, None]
    if mask is not None and causal:
        factor = 1 + 0 * factor
    return exact((q * factor).to(q.dtype), k, v, mask, causal, scale)


@combinations(
    "a mask in float64 alone is right",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "dtype": torch.float32, "batch": 3, "heads": 3},
)
def mask_in_float32(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    visible = visible_pairs(q, k, mask, causal)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible)
    if mask is not None and q.dtype == torch.float32 and q.shape[0] > 2 and q.shape[1] > 2:
        weights = weights.half().float()
    return (weights @ wide_v).to(q.dtype)


@combinations(
    "more queries than keys with a mask: the mask of the first rows is for all",
    of=SOFTMAX,
    at={**HALF_HIDDEN, "q_len": 20, "k_len": 7},
)
def mask_of_many_queries(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() >= 2 and mask.shape[-2] > k.shape[2] > 1:
        rows = torch.arange(mask.shape[-2], device=mask.device) % k.shape[2]
        mask = mask[..., rows, :]
    return exact(q, k, v, mask, causal, scale)
