"""The covering array: what it reaches, and that planted faults of one place meet it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import Activation, Attention, Metadata, allowed_keys, masked_softmax
from bakeoff.registry.variants import Variant
from bakeoff.suites.covering import FACTORS, MOST_ELEMENTS, array_of, case_of, words_of
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import Job, suites_of

Tensor = torch.Tensor

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
DTYPES = ("float32", "bfloat16", "float16", "float64")
#: Products of a row that a quick test can pay.
CHEAP = 3 * 10**5


def described(**changes: Any) -> Metadata:
    fields: dict[str, Any] = {
        "title": "Planted",
        "summary": "Looks right.",
        "formula": "o",
        "strengths": ("none",),
        "weaknesses": ("wrong",),
        "use_when": "Never.",
        "tags": ("soft", "global"),
    }
    return Metadata(**{**fields, **changes})


def jobs_of(variant: Variant) -> list[Job]:
    """The jobs of the certificate that hold the rows of the array."""
    catalog = CATALOG.with_variants(variant)
    suite = suites_of(catalog, ["accuracy"])["accuracy"]
    selection = selection_for("check", "accuracy", {"variants": (variant.name,)})
    jobs = [replace(job, catalog=catalog) for job in suite.plan(catalog, selection)]
    return [job for job in jobs if job.cells[0].extra["check"] == "covering"]


def cost_of(cell: Cell) -> int:
    shape = cell.case.attention_shape
    return shape.batch * shape.heads * shape.q_len * shape.k_len * shape.head_dim


def found_in(variant: Variant) -> Iterator[Record]:
    """The records of the rows, the cheapest first."""
    jobs = jobs_of(variant)
    measure = suites_of(jobs[0].catalog, ["accuracy"])["accuracy"].measure
    cells = sorted((cell for job in jobs for cell in job.cells), key=cost_of)
    for _, group in itertools.groupby(cells, key=lambda cell: (cell.case, cell.extra)):
        yield from measure(replace(jobs[0], cells=tuple(group)))


def first_fault(variant: Variant) -> Record | None:
    return next((record for record in found_in(variant) if record.status.is_failure), None)


@pytest.mark.parametrize("name", ["scaled_dot_product", "grouped_query", "rotary", "retention"])
def test_each_value_stands_in_some_row(name: str) -> None:
    array = array_of(CATALOG[name], DTYPES)
    for factor, values in array.factors.items():
        assert {row[factor] for row in array.rows} == set(values), factor


def test_pairs_that_are_reached() -> None:
    """All but the five that no shape has: no key is shorter than one, and decoding is causal."""
    array = array_of(CATALOG["scaled_dot_product"], DTYPES)
    assert len(array.rows) <= 75
    assert array.pairs - array.reached == 5
    reached = {(row["lengths"], row["causal"]) for row in array.rows}
    assert reached == set(itertools.product(array.factors["lengths"], (False, True))) - {
        ("decode", False)
    }


def test_masks_meet_causality_lengths_and_dtypes() -> None:
    rows = array_of(CATALOG["scaled_dot_product"], DTYPES).rows
    together = {(row["mask"], row["causal"], row["dtype"]) for row in rows}
    assert together == set(itertools.product(FACTORS["attention"]["mask"], (False, True), DTYPES))


def test_rows_are_affordable_and_have_words() -> None:
    variant = CATALOG["grouped_query"]
    for row in array_of(variant, DTYPES).rows:
        case = case_of(variant, row)
        shape = case.attention_shape
        assert shape.batch * shape.heads * shape.q_len * shape.k_len <= MOST_ELEMENTS
        assert row["dtype"] in words_of(case, {"mask": row["mask"], "scale": None})


def test_the_array_is_what_a_variant_can_do() -> None:
    assert set(array_of(CATALOG["differential"], DTYPES).factors["head_dim"]) == {
        16, 64, 80, 128, 256
    }  # fmt: skip
    assert array_of(CATALOG["multi_query"], DTYPES).factors["kv_heads"] == (1,)
    assert array_of(CATALOG["swin"], DTYPES).factors["lengths"] == ("equal",)
    assert all(row["causal"] for row in array_of(CATALOG["retention"], DTYPES).rows)
    assert array_of(CATALOG["relu"], ()).rows == ()


def reference(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


def right(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = torch.einsum("bhid,bhjd->bhij", q * scale, k)
    weights = masked_softmax(scores, allowed_keys(q, k, mask, causal))
    return torch.einsum("bhij,bhjd->bhid", weights, v)


def third_example(q, k, v, **same):
    out = right(q, k, v, **same)
    return torch.cat([out[:2], out[2:] * 1.05])


def fourth_head(q, k, v, **same):
    out = right(q, k, v, **same)
    return torch.cat([out[:, :3], out[:, 3:4] * 1.05, out[:, 4:]], 1)


def tiled_key_heads(q, k, v, **same):
    groups = q.shape[1] // k.shape[1]
    return right(q, k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1), **same)


def odd_head_dim(q, k, v, *, scale=None, **same):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    even = max(1, q.shape[-1] // 2 * 2)
    return right(q[..., :even], k[..., :even], v, scale=scale, **same)


def beyond_64_features(q, k, v, *, scale=None, **same):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return right(q[..., :64], k[..., :64], v, scale=scale, **same)


def beyond_600_keys(q, k, v, **same):
    return right(q, k, v, **same) * (1.01 if k.shape[2] > 600 else 1)


def more_queries_and_causal(q, k, v, *, causal=False, **same):
    if causal and q.shape[2] > k.shape[2]:
        return right(q, k, v, **same)
    return right(q, k, v, causal=causal, **same)


def crashes_with_more_queries(q, k, v, *, causal=False, **same):
    if causal and q.shape[2] > k.shape[2]:
        raise RuntimeError("the triangle has a negative side")
    return right(q, k, v, causal=causal, **same)


def mask_without_causal(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, causal=causal and mask is None, scale=scale)


def mask_and_causal_at_one_example(q, k, v, *, mask=None, causal=False, scale=None):
    mask = None if q.shape[0] == 1 and causal else mask
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def mask_at_one_head(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask if q.shape[1] > 1 else None, causal=causal, scale=scale)


def positive_scale(q, k, v, *, scale=None, **same):
    return right(q, k, v, scale=scale if scale is None else abs(scale), **same)


def scale_of_zero(q, k, v, *, scale=None, **same):
    return right(q, k, v, scale=scale or None, **same)


def wrong_gradient_of_half_keys(q, k, v, **same):
    half = k.shape[2] // 2
    stopped = torch.cat([k[:, :, :half], k[:, :, half:].detach()], 2)
    return right(q, stopped if k.shape[2] > 600 else k, v, **same)


FAULTS = [
    third_example,
    fourth_head,
    tiled_key_heads,
    odd_head_dim,
    beyond_64_features,
    beyond_600_keys,
    more_queries_and_causal,
    crashes_with_more_queries,
    mask_without_causal,
    mask_and_causal_at_one_example,
    mask_at_one_head,
    positive_scale,
    scale_of_zero,
    wrong_gradient_of_half_keys,
]


@pytest.mark.parametrize("fast", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_met(fast: Callable[..., Tensor]) -> None:
    variant = Attention(
        "planted",
        forwards={"reference": reference, "fast": fast},
        metadata=described(),
        grouped=True,
    )
    found = first_fault(variant)
    assert found is not None
    assert found.cell.forward == "fast"
    assert found.reason.startswith(("B1 ", "B3 "))


def no_causal_with_mask(q, k, v, *, mask=None, causal=False, scale=None):
    return reference(q, k, v, mask=mask, causal=causal and mask is None, scale=scale)


def no_mask_at_one_example(q, k, v, *, mask=None, causal=False, scale=None):
    mask = None if q.shape[0] == 1 else mask
    return reference(q, k, v, mask=mask, causal=causal, scale=scale)


def over_queries(q, k, v, *, mask=None, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    allowed = allowed_keys(q, k, mask, causal)
    scores = (q @ k.mT * scale).mT
    return masked_softmax(scores, None if allowed is None else allowed.mT).mT @ v


def damped(q, k, v, *, mask=None, causal=False, scale=None):
    out = reference(q, k, v, mask=mask, causal=causal, scale=scale)
    every = reference(q, k, v, scale=scale)
    return out if mask is None else out + 1e-5 * every


def last_key_unseen(q, k, v, *, mask=None, causal=False, scale=None):
    allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    allowed[-1:, k.shape[2] // 2 : k.shape[2] // 2 + 1] = k.shape[2] < 2
    mask = allowed if mask is None else mask & allowed
    return reference(q, k, v, mask=mask, causal=causal, scale=scale)


def examples_mixed(q, k, v, *, mask=None, causal=False, scale=None):
    return reference(q, k - k.mean(0), v, mask=mask, causal=causal, scale=scale)


def past_from_length(q, k, v, *, mask=None, causal=False, scale=None):
    return reference(q, k, v, mask=mask, causal=causal, scale=scale) * k.shape[2] ** 0.1


LONE = [
    no_causal_with_mask,
    no_mask_at_one_example,
    over_queries,
    damped,
    last_key_unseen,
    examples_mixed,
    tiled_key_heads,
]


@pytest.mark.parametrize("alone", LONE, ids=lambda fault: fault.__name__)
def test_a_planted_fault_of_a_lone_reference_is_met(alone: Callable[..., Tensor]) -> None:
    variant = Attention(
        "planted", forwards={"reference": alone}, metadata=described(), grouped=True
    )
    assert (found := first_fault(variant)) is not None
    assert found.status == Status.WRONG


def cheap_records(variant: Variant) -> list[Record]:
    jobs = jobs_of(variant)
    measure = suites_of(jobs[0].catalog, ["accuracy"])["accuracy"].measure
    cells = tuple(c for job in jobs for c in job.cells if cost_of(c) < CHEAP)
    assert len(cells) > 50
    return list(measure(replace(jobs[0], cells=cells)))


def test_what_is_right_stays_right() -> None:
    variant = Attention(
        "planted",
        forwards={"reference": reference, "fast": right},
        metadata=described(),
        grouped=True,
    )
    records = cheap_records(variant)
    assert not [r.reason for r in records if r.status not in (Status.OK, Status.UNSUPPORTED)]


def odd_features(x):
    return torch.relu(x) * (1.05 if x.shape[-1] % 2 else 1)


def four_dimensions(x):
    return torch.relu(x) * (1.05 if x.dim() == 4 else 1)


def long_and_wide(x):
    return torch.relu(x) * (1.05 if x.shape[-1] > 200 else 1)


@pytest.mark.parametrize(
    "fast", [odd_features, four_dimensions, long_and_wide], ids=lambda fault: fault.__name__
)
def test_a_planted_fault_of_an_activation_is_met(fast: Callable[..., Tensor]) -> None:
    def relu(x: Tensor) -> Tensor:
        return x.clamp(min=0)

    variant = Activation(
        "planted",
        forwards={"reference": relu, "fast": fast},
        metadata=described(tags=("rectifier",)),
    )
    (job, *_) = jobs = jobs_of(variant)
    measure = suites_of(job.catalog, ["accuracy"])["accuracy"].measure
    records = [record for job in jobs for record in measure(job)]
    wrong = [record for record in records if record.status == Status.WRONG]
    assert {record.cell.forward for record in wrong} == {"fast"}
    right = partial(filter, lambda record: record.cell.forward == "reference")
    assert not [record for record in right(records) if record.status.is_failure]
