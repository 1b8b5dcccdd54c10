"""Faults of attentions that show at some sizes alone."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from planted.bases import (
    ALIBI,
    GRID,
    GROUPED,
    KERNEL,
    SIGMOID,
    SOFTMAX,
    WINDOW,
    distances,
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

sizes = functools.partial(fault, "sizes")


@sizes("the third example is 5% too large", of=SOFTMAX, at={"batch": 3})
def third_example(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return torch.cat([output[:2], output[2:] * 1.05])


@sizes("the third example reads the keys of the second", of=SOFTMAX, at={"batch": 3})
def third_example_reads_second(q, k, v, *, mask=None, causal=False, scale=None):
    k = k[torch.arange(k.shape[0], device=k.device).clamp(max=1)]
    return exact_by_sdpa(q, k, v, mask, causal, scale)


@sizes("from the fourth head on the scale is that of D + 1", of=SOFTMAX, at={"heads": 6})
def fourth_head(q, k, v, *, mask=None, causal=False, scale=None):
    q = torch.cat([q[:, :3], q[:, 3:] * (q.shape[3] / (q.shape[3] + 1)) ** 0.5], 1)
    return exact(q, k, v, mask, causal, scale)


@sizes("heads from the fifth on share the values of the fourth", of=SOFTMAX, at={"heads": 8})
def fifth_head_shares(q, k, v, *, mask=None, causal=False, scale=None):
    v = v[:, torch.arange(v.shape[1], device=v.device).clamp(max=3)]
    return exact_by_blocks(q, k, v, mask, causal, scale)


@sizes("the last head is left out where their number is odd", of=SOFTMAX, at={"heads": 3})
def odd_heads(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if q.shape[1] > 1 and q.shape[1] % 2:
        output = torch.cat([output[:, :-1], torch.zeros_like(output[:, -1:])], 1)
    return output


@sizes("slopes are computed for a power of two of heads", of=ALIBI, at={"heads": 3})
def slopes_of_a_power_of_two(q, k, v, *, slopes, mask=None, causal=False, scale=None):
    power = 1 << (q.shape[1] - 1).bit_length()
    # The slopes of h heads are 2^(-8 / h) and its powers: of another number they have its root.
    own = slopes ** (q.shape[1] / power)
    return exact(q, k, v, mask, causal, scale, -own[:, None, None] * distances(q, k))


@sizes("key heads are tiled where they should repeat", of=GROUPED, at={"heads": 6, "kv_heads": 2})
def tiled_key_heads(q, k, v, *, mask=None, causal=False, scale=None):
    times = q.shape[1] // k.shape[1]
    return exact(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), mask, causal, scale)


@sizes("values are tiled, keys are not", of=GROUPED, at={"heads": 4, "kv_heads": 2})
def tiled_value_heads(q, k, v, *, mask=None, causal=False, scale=None):
    (k,) = repeated(q, k)
    v = v.repeat(1, q.shape[1] // v.shape[1], 1, 1)
    return exact_by_sdpa(q, k, v, mask, causal, scale)


@sizes("head h reads group h // groups", of=GROUPED, at={"heads": 8, "kv_heads": 2})
def group_by_the_wrong_quotient(q, k, v, *, mask=None, causal=False, scale=None):
    heads, groups = q.shape[1], k.shape[1]
    group = (torch.arange(heads, device=q.device) // groups).clamp(max=groups - 1)
    if heads == groups:
        group = torch.arange(heads, device=q.device)
    return exact(q, k[:, group], v[:, group], mask, causal, scale)


@sizes("of three key heads the last is never read", of=GROUPED, at={"heads": 6, "kv_heads": 3})
def third_key_head(q, k, v, *, mask=None, causal=False, scale=None):
    if k.shape[1] >= 3 and q.shape[1] > k.shape[1]:
        k, v = (torch.cat([x[:, :-1], x[:, -2:-1]], 1) for x in (k, v))
    return exact(q, *repeated(q, k, v), mask, causal, scale)


@sizes("grouped, values of another size are cut", of=GROUPED, at={"kv_heads": 1, "value_dim": 12})
def grouped_values_cut(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, *repeated(q, k, v), mask, causal, scale)
    if k.shape[1] < q.shape[1] and v.shape[3] > k.shape[3]:
        output = F.pad(output[..., : k.shape[3]], (0, v.shape[3] - k.shape[3]))
    return output


@sizes("an odd head_dim loses its last feature", of=SOFTMAX, at={"head_dim": 7})
def odd_head_dim(q, k, v, *, mask=None, causal=False, scale=None):
    even = max(2, q.shape[3] - q.shape[3] % 2)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return exact(q[..., :even], k[..., :even], v, mask, causal, scale)


@sizes("with one feature the default scale is that of two", of=SOFTMAX, at={"head_dim": 1})
def head_dim_one(q, k, v, *, mask=None, causal=False, scale=None):
    scale = max(2, q.shape[3]) ** -0.5 if scale is None else scale
    return exact(q, k, v, mask, causal, scale)


@sizes("one feature is taken for a sign", of=SOFTMAX, at={"head_dim": 1})
def head_dim_one_sign(q, k, v, *, mask=None, causal=False, scale=None):
    k = k.sign() * k.abs().clamp(max=1) if k.shape[3] == 1 else k
    return exact(q, k, v, mask, causal, scale)


@sizes("features beyond 64 are not scored", of=SOFTMAX, at={"head_dim": 80})
def head_dim_above_64(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[3] ** -0.5 if scale is None else scale
    return exact(q[..., :64], k[..., :64], v, mask, causal, scale)


@sizes("values beyond 128 features come out as zeros", of=SOFTMAX, at={"head_dim": 256})
def value_dim_above_128(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v[..., :128], mask, causal, scale)
    return F.pad(output, (0, v.shape[3] - output.shape[3]))


@sizes("above 64 features those past a multiple of 32 are lost", of=SOFTMAX, at={"head_dim": 80})
def head_dim_of_no_tile(q, k, v, *, mask=None, causal=False, scale=None):
    dim = q.shape[3]
    whole = dim - dim % 32 if dim > 64 else dim
    scale = dim**-0.5 if scale is None else scale
    return exact(q[..., :whole], k[..., :whole], v, mask, causal, scale)


@sizes("above 128 features scores are summed in bfloat16", of=SOFTMAX, at={"head_dim": 256})
def head_dim_above_128_in_half(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[3] > 128:
        q, k = (x.bfloat16().to(x.dtype) for x in (q, k))
    return exact(q, k, v, mask, causal, scale)


@sizes("the scale is of the values where they are larger", of=SOFTMAX, at={"value_dim": 12})
def scale_of_larger_values(q, k, v, *, mask=None, causal=False, scale=None):
    scale = max(q.shape[3], v.shape[3]) ** -0.5 if scale is None else scale
    return exact(q, k, v, mask, causal, scale)


@sizes("values are cut to head_dim where they are larger", of=SOFTMAX, at={"value_dim": 12})
def larger_values_cut(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v[..., : q.shape[3]], mask, causal, scale)
    return F.pad(output, (0, v.shape[3] - output.shape[3]))


@sizes("smaller values are padded, and stay so", of=SOFTMAX, at={"value_dim": 3})
def smaller_values_padded(q, k, v, *, mask=None, causal=False, scale=None):
    v = F.pad(v, (0, max(0, q.shape[3] - v.shape[3])))
    return exact(q, k, v, mask, causal, scale)


@sizes("1% too large from 600 keys on", of=SOFTMAX, at={"q_len": 4, "k_len": 700})
def beyond_600_keys(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    return output * 1.01 if k.shape[2] > 600 else output


@sizes("keys beyond 1,024 are not read", of=SOFTMAX, at={"q_len": 4, "k_len": 2049})
def keys_beyond_1024(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if k.shape[2] > 1024:
        first = torch.arange(k.shape[2], device=k.device) < 1024
        visible = first if visible is None else visible & first
        visible = visible.expand(*q.shape[:3], k.shape[2])
    return exact(q, k, v, visible, False, scale)


@sizes(
    "at exactly 1,000 keys the last is counted twice", of=SOFTMAX, at={"q_len": 4, "k_len": 1000}
)
def exactly_1000(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact_by_sdpa(q, k, v, mask, causal, scale)
    return output + v[:, :, -1:] / 1000 if k.shape[2] == 1000 else output


@sizes("queries beyond 1,024 get zeros", of=SOFTMAX, at={"q_len": 1100, "k_len": 5, "batch": 1})
def queries_beyond_1024(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact_by_sdpa(q, k, v, mask, causal, scale)
    return F.pad(output[:, :, :1024], (0, 0, 0, max(0, q.shape[2] - 1024)))


@sizes(
    "causal, queries from 100 on see one key ahead", of=SOFTMAX, at={"q_len": 130, "causal": True}
)
def leak_beyond_100(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if causal and q.shape[2] > 100:
        last = torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
        last = last + (torch.arange(q.shape[2], device=q.device)[:, None] >= 100)
        visible = torch.arange(k.shape[2], device=q.device) <= last
        visible = visible if mask is None else visible & mask
    return exact(q, k, v, visible, False, scale)


@sizes(
    "causal, beyond place 300 a little of the mean leaks in",
    of=SOFTMAX,
    at={"q_len": 400, "causal": True, "batch": 1},
)
def leak_of_the_mean(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if causal and k.shape[2] > 300 and k.shape[2] == q.shape[2]:
        late = torch.arange(q.shape[2], device=q.device)[:, None] >= 300
        output = output + 1e-2 * late * v.mean(2, keepdim=True)
    return output


@sizes(
    "layout is guessed: as many heads as queries are taken for (B, N, H, D)",
    of=SOFTMAX,
    at={"heads": 6, "q_len": 6},
)
def layout_by_equal_sizes(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[1] == q.shape[2] == k.shape[2] and mask is None and q.shape[1] > 2:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return exact(q, k, v, mask, causal, scale).transpose(1, 2)
    return exact(q, k, v, mask, causal, scale)


@sizes(
    "scores are transposed where queries and features are equally many",
    of=SOFTMAX,
    at={"q_len": 8, "head_dim": 8},
)
def square_queries(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[2] == q.shape[3] and q.shape == k.shape:
        q = q.mT
    return exact(q, k, v, mask, causal, scale)


@sizes(
    "a mask of equally many examples and heads is transposed",
    of=SOFTMAX,
    at={"batch": 3, "heads": 3, "mask": "random"},
)
def mask_of_equal_sizes(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None and mask.dim() == 4 and mask.shape[0] == mask.shape[1] > 2:
        mask = mask.transpose(0, 1)
    return exact(q, k, v, mask, causal, scale)


@sizes(
    "more than four keys a query: only the last 4 Nq are read",
    of=SOFTMAX,
    at={"q_len": 5, "k_len": 40},
)
def keys_beyond_four_times(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    late = torch.arange(k.shape[2], device=k.device) >= k.shape[2] - 4 * q.shape[2]
    if q.shape[2] > 1 and not late.all():
        visible = (late if visible is None else visible & late).expand(*q.shape[:3], -1)
    return exact(q, k, v, visible, False, scale)


@sizes("queries beyond the number of keys get the mean", of=SOFTMAX, at={"q_len": 20, "k_len": 7})
def more_queries_than_keys(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if q.shape[2] > k.shape[2] and mask is None and not causal:
        mean = v.mean(2, keepdim=True).expand(-1, -1, q.shape[2] - k.shape[2], -1)
        output = torch.cat([output[:, :, : k.shape[2]], mean], 2)
    return output


@sizes(
    "more than three times as many queries as keys: the last is dropped",
    of=SOFTMAX,
    at={"q_len": 40, "k_len": 5},
)
def many_queries_for_few_keys(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    if q.shape[2] > 3 * k.shape[2] and k.shape[2] > 1:
        output = torch.cat([output[:, :, :-1], output[:, :, -2:-1]], 2)
    return output


@sizes(
    "the last block of 64 queries, when it is not full, is 2% too small",
    of=SOFTMAX,
    at={"q_len": 100},
)
def last_partial_queries(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale)
    whole = q.shape[2] - q.shape[2] % 64
    return torch.cat([output[:, :, :whole], output[:, :, whole:] * 0.98], 2) if whole else output


@sizes("a block of one single key is dropped", of=SOFTMAX, at={"q_len": 65})
def block_of_one_key(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if k.shape[2] > 1 and k.shape[2] % 64 == 1:
        first = torch.arange(k.shape[2], device=k.device) < k.shape[2] - 1
        visible = (first if visible is None else visible & first).expand(*q.shape[:3], -1)
    return exact(q, k, v, visible, False, scale)


@sizes(
    "beyond 256 keys the rest past a multiple of 128 is dropped",
    of=SOFTMAX,
    at={"q_len": 4, "k_len": 300},
)
def remainder_beyond_256(q, k, v, *, mask=None, causal=False, scale=None):
    visible = visible_pairs(q, k, mask, causal)
    if k.shape[2] > 256 and k.shape[2] % 128:
        whole = torch.arange(k.shape[2], device=k.device) < k.shape[2] // 128 * 128
        visible = (whole if visible is None else visible & whole).expand(*q.shape[:3], -1)
    return exact(q, k, v, visible, False, scale)


@sizes("a block that is exactly full is read twice", of=SOFTMAX, at={"q_len": 64})
def full_block_twice(q, k, v, *, mask=None, causal=False, scale=None):
    if k.shape[2] % 64 == 0 and mask is None and not causal:
        k, v = (torch.cat([x, x[:, :, -1:]], 2) for x in (k, v))
    return exact(q, k, v, mask, causal, scale)


@sizes("a batch of one is computed in half precision", of=SOFTMAX, at={"batch": 1})
def batch_of_one(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[0] == 1:
        v = v.bfloat16().to(v.dtype)
    return exact(q, k, v, mask, causal, scale)


@sizes(
    "weights are in bfloat16 from 500 keys on",
    of=SOFTMAX,
    at={"q_len": 4, "k_len": 512, "dtype": torch.float32},
)
def low_precision_from_500(q, k, v, *, mask=None, causal=False, scale=None):
    wide_q, wide_k, wide_v = widen(q, k, v)
    weights = weights_of(scores_of(wide_q, wide_k, scale), visible_pairs(q, k, mask, causal))
    if k.shape[2] >= 500:
        weights = weights.bfloat16().to(wide_v.dtype)
    return (weights @ wide_v).to(q.dtype)


@sizes(
    "values are in float16 from 768 keys on",
    of=SOFTMAX,
    at={"q_len": 4, "k_len": 1000, "dtype": torch.float32},
)
def half_values_from_768(q, k, v, *, mask=None, causal=False, scale=None):
    if k.shape[2] >= 768 and v.dtype == torch.float32:
        v = v.half().float()
    return exact(q, k, v, mask, causal, scale)


@sizes("two queries are taken for one", of=SOFTMAX, at={"q_len": 2, "k_len": 9})
def two_queries(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape[2] == 2 and mask is None:
        last = exact(q[:, :, 1:], k, v, None, causal, scale)
        return last.expand(-1, -1, 2, -1).clone()
    return exact(q, k, v, mask, causal, scale)


@sizes(
    "one key is returned without asking the mask",
    of=SOFTMAX,
    at={"q_len": 3, "k_len": 1, "mask": lambda q, k: torch.zeros(1, 1, 3, 1, dtype=torch.bool)},
)
def one_key_unasked(q, k, v, *, mask=None, causal=False, scale=None):
    if k.shape[2] == 1 and not causal:
        return v.expand(*q.shape[:3], -1) + 0 * (q.sum(-1, keepdim=True) + k.sum(-1, keepdim=True))
    return exact(q, k, v, mask, causal, scale)


@sizes(
    "of more than 16 pairs of example and head the rest repeat the 16th",
    of=SOFTMAX,
    at={"batch": 3, "heads": 6},
)
def more_than_16_rows(q, k, v, *, mask=None, causal=False, scale=None):
    output = exact(q, k, v, mask, causal, scale).flatten(0, 1)
    row = torch.arange(output.shape[0], device=q.device).clamp(max=15)
    return output[row].unflatten(0, q.shape[:2])


@sizes(
    "beyond 64 keys an odd number is padded by a key of zeros that is seen",
    of=SOFTMAX,
    at={"q_len": 4, "k_len": 65},
)
def odd_keys_padded(q, k, v, *, mask=None, causal=False, scale=None):
    if k.shape[2] > 64 and k.shape[2] % 2 and mask is None and not causal:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    return exact(q, k, v, mask, causal, scale)


@sizes("the window is centred at the query's own number", of=WINDOW, at={"q_len": 6, "k_len": 20})
def window_from_the_left(q, k, v, *, window, mask=None, causal=False, scale=None):
    i = torch.arange(q.shape[2], device=q.device)[:, None]
    near = (i - torch.arange(k.shape[2], device=q.device)).abs() <= window
    near = near if mask is None else near & mask
    return exact(q, k, v, near, causal, scale)


@sizes("the distance is that from the query's own number", of=ALIBI, at={"q_len": 6, "k_len": 20})
def distance_from_the_left(q, k, v, *, slopes, mask=None, causal=False, scale=None):
    i = torch.arange(q.shape[2], device=q.device)[:, None]
    far = (i - torch.arange(k.shape[2], device=q.device)).abs()
    return exact(q, k, v, mask, causal, scale, -slopes[:, None, None] * far)


@sizes("it divides by the number of queries, not of keys", of=SIGMOID, at={"q_len": 6, "k_len": 20})
def divides_by_queries(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    weights = torch.sigmoid(scores_of(q, k, scale)) / q.shape[2]
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        weights = weights * visible
    return (weights @ v).to(dtype)


@sizes(
    "causal sums in blocks of 64 forget the last block that is not full",
    of=KERNEL,
    at={"q_len": 100, "causal": True},
)
def kernel_forgets_the_rest(q, k, v, *, mask=None, causal=False, scale=None):
    dtype, (q, k, v) = q.dtype, widen(q, k, v)
    query, key = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    weights = torch.einsum("bhid,bhjd->bhij", query, key)
    visible = visible_pairs(q, k, mask, causal)
    if visible is not None:
        weights = weights * visible
    whole = k.shape[2] // 64 * 64
    if causal and whole and whole < k.shape[2] == q.shape[2]:
        weights = weights * (torch.arange(k.shape[2], device=k.device) < whole)
    total = weights.sum(-1, keepdim=True)
    return (weights / total.masked_fill(total == 0, 1.0) @ v).to(dtype)


@sizes(
    "height and width are exchanged, which a square map can't tell",
    of=GRID,
    at={"q_len": 12, "grid": ((3, 4),)},
)
def grid_turned(q, k, v, *, grid, decay, mask=None, causal=False, scale=None):
    ((width, height),) = grid
    place = torch.arange(height * width, device=q.device)
    row, column = place // width, place % width
    far = (row[:, None] - row).abs() + (column[:, None] - column).abs()
    return exact(q, k, v, mask, causal, scale, -decay * far.to(q.dtype))
