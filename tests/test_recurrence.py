"""Recurrences, right and wrong on purpose, under the check of the accuracy suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff import Attention, Metadata, Shape, UnsupportedError
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

Tensor = torch.Tensor
METRICS = ("recurrence", "recurrence_gradient", "recurrence_masked", "recurrence_state")


def inputs(shape: Shape, generator: torch.Generator | None) -> Mapping[str, Tensor]:
    """A gate for each token, and one number that belongs to none."""
    size = (shape.batch, shape.heads, shape.k_len)
    return {
        "gate": torch.randn(*size, 1, generator=generator),
        "gain": torch.randn(shape.heads, 1, 1, generator=generator),
    }


def quadratic(q, k, v, *, gate, gain, mask=None, causal=False, scale=None):
    """o_i = gain · Σ_j q_i·k_j gate_j v_j."""
    scale = 1 / q.shape[-1] if scale is None else scale
    allowed = bakeoff.allowed_keys(q, k, mask, causal)
    scores = q @ k.mT * scale
    scores = scores if allowed is None else scores * allowed
    return gain * (scores @ (gate * v))


def right(q, k, v, *, gate, gain, state=None, mask=None, causal=True, scale=None):
    """One token after another: S += k vᵀ, o = q S."""
    scale = 1 / q.shape[-1] if scale is None else scale
    v = gate * v if mask is None else gate * v * mask.mT
    (sums,) = (
        (torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :]),) if state is None else state
    )
    outputs = []
    for t in range(q.shape[2]):
        sums = sums + k[:, :, t, :, None] * v[:, :, t, None, :]
        outputs.append(gain * (q[:, :, t, None] @ sums * scale))
    return torch.cat(outputs, 2), (sums,)


def forgets(q, k, v, *, state=None, **same):
    return right(q, k, v, **same)


def off_by_one(q, k, v, *, state=None, **same):
    """A token does not see itself."""
    output, after = right(q, k, v, state=state, **same)
    own = (q * k).sum(-1, keepdim=True) * same["gate"] * v / q.shape[-1]
    return output - same["gain"] * own, after


def repeats_the_last_token(q, k, v, *, state=None, **same):
    """The last token of a piece is counted again in the next."""
    output, (sums,) = right(q, k, v, state=state, **same)
    return output, (sums + k[:, :, -1, :, None] * (same["gate"] * v)[:, :, -1, None, :],)


def cuts_the_gradient(q, k, v, *, state=None, **same):
    output, (sums,) = right(q, k, v, state=state, **same)
    return output, (sums.detach(),)


def ignores_the_mask(q, k, v, *, mask=None, **same):
    return right(q, k, v, **same)


def counts_pieces(q, k, v, *, state=None, **same):
    """Its outputs are right, its state depends on the splits."""
    sums, pieces = (None, torch.zeros(1)) if state is None else state
    output, (sums,) = right(q, k, v, state=None if sums is None else (sums,), **same)
    return output, (sums, pieces + 1)


def works_in_place(q, k, v, *, state=None, **same):
    output, (sums,) = right(q, k, v, state=state, **same)
    if state is None or torch.is_grad_enabled():
        return output, (sums,)
    return output, (state[0].copy_(sums),)


def refuses_masks(q, k, v, *, mask=None, **same):
    if mask is not None:
        raise UnsupportedError("it has no place for a mask")
    return right(q, k, v, **same)


def planted(recurrence: Callable[..., Any]) -> Attention:
    metadata = Metadata(
        title="Planted", summary="For tests.", formula="o", strengths=("short",),
        weaknesses=("useless",), use_when="Never.", tags=("recurrent",),
    )  # fmt: skip
    return Attention(
        "planted",
        forwards={"reference": quadratic},
        inputs=inputs,
        recurrence=recurrence,
        metadata=metadata,
    )


def records_of(variant: Attention, **given: Any) -> list[Record]:
    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(variant)
    suite = suites_of(catalog, ["accuracy"])["accuracy"]
    axes = {"variants": ("planted",), "seq_lens": (24,), "dtypes": ("float32",), **given}
    jobs = suite.plan(catalog, selection_for("quick", "accuracy", axes))
    found = [r for job in jobs for r in suite.measure(replace(job, catalog=catalog))]
    return [r for r in found if r.cell.extra.get("check") == "recurrence"]


def test_a_right_recurrence() -> None:
    records = records_of(planted(right), dtypes=("float32", "float64"))
    assert [(r.metric, r.status) for r in records] == [(m, Status.OK) for m in METRICS] * 2
    assert all(r.value is not None and 0 <= r.value <= 2 for r in records)


@pytest.mark.parametrize(
    ("fn", "metrics", "reason"),
    [
        (forgets, set(METRICS), "token by token: the output has an RMS error"),
        (off_by_one, {"recurrence", "recurrence_gradient", "recurrence_masked"}, "the output has"),
        (repeats_the_last_token, set(METRICS), "token by token: the output has"),
        (cuts_the_gradient, {"recurrence_gradient"}, "token by token: the gradient of "),
        (ignores_the_mask, {"recurrence_masked"}, "the output has an RMS error of"),
        (counts_pieces, {"recurrence_state"}, "token by token: the output has"),
        (works_in_place, {"recurrence_state"}, "it changes the state that it is given in place"),
    ],
)
def test_a_wrong_recurrence(fn: Callable[..., Any], metrics: set[str], reason: str) -> None:
    records = records_of(planted(fn))
    wrong = {r.metric: r.reason for r in records if r.status == Status.WRONG}
    assert set(wrong) == metrics
    assert any(reason in told for told in wrong.values()), wrong


def test_a_mask_may_be_refused() -> None:
    records = {r.metric: r for r in records_of(planted(refuses_masks))}
    masked = records.pop("recurrence_masked")
    assert (masked.status, masked.reason) == (Status.UNSUPPORTED, "it has no place for a mask")
    assert {r.status for r in records.values()} == {Status.OK}


def test_an_exception_is_a_row() -> None:
    def raises(q, k, v, *, state=None, **same):
        raise ZeroDivisionError("as planted")

    records = records_of(planted(raises))
    assert {(r.metric, r.status, r.reason) for r in records} == {
        (metric, Status.FAILED, "ZeroDivisionError: as planted") for metric in METRICS
    }


def test_without_a_recurrence_there_is_no_check() -> None:
    assert not records_of(replace(planted(right), recurrence=None))
