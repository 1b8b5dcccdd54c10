"""Variants that are wrong on purpose: each must come out so, by the check that should notice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import bakeoff
from bakeoff import (
    Activation,
    Attention,
    Case,
    Forward,
    Identity,
    Metadata,
    allowed_keys,
    masked_softmax,
)
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

Tensor = torch.Tensor


def described(**changes: Any) -> Metadata:
    fields: dict[str, Any] = {
        "title": "Planted",
        "summary": "Looks right.",
        "formula": "o",
        "strengths": ("none",),
        "weaknesses": ("wrong",),
        "use_when": "Never.",
        "tags": ("soft",),
    }
    return Metadata(**{**fields, **changes})


def right(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return masked_softmax(q @ k.mT * scale, allowed_keys(q, k, mask, causal)) @ v


def fused(q, k, v, *, mask=None, causal=False, scale=None):
    allowed = allowed_keys(q, k, mask, causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)


def leaks(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, scale=scale)


def leaks_one_token(q, k, v, *, mask=None, causal=False, scale=None):
    if causal:
        band = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
        band = band.tril(k.shape[-2] - q.shape[-2] + 1)
        mask = band if mask is None else band & mask
    return right(q, k, v, mask=mask, scale=scale)


def upper_left(q, k, v, *, mask=None, causal=False, scale=None):
    if causal:
        band = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        mask = band if mask is None else band & mask
    return right(q, k, v, mask=mask, scale=scale)


def ignores_mask(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, causal=causal, scale=scale)


def inverts_mask(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=None if mask is None else ~mask, causal=causal, scale=scale)


def scales_wrongly(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / q.shape[-1] if scale is None else scale
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def scales_slightly_wrongly(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1.01 / math.sqrt(q.shape[-1]) if scale is None else scale
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def ignores_scale(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, causal=causal)


def softmax_over_queries(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return scores.softmax(-2) @ v


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def wrong_backward(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, _Doubled.apply(v), mask=mask, causal=causal, scale=scale)


def wrong_backward_of_keys(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k.detach(), v, mask=mask, causal=causal, scale=scale)


def changes_its_input(q, k, v, *, mask=None, causal=False, scale=None):
    with torch.no_grad():
        output = right(q, k, v, mask=mask, causal=causal, scale=scale)
        q.mul_(1.5)
    return output


def wrong_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    if q.dtype == torch.bfloat16:  # as a kernel that sums in 8 bits would be
        k = (k * 4).round() / 4
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def mixes_the_batch(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k - k.mean(0, keepdim=True), v, mask=mask, causal=causal, scale=scale)


def nan_without_keys(q, k, v, *, mask=None, causal=False, scale=None):
    allowed = allowed_keys(q, k, mask, causal)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores.softmax(-1) @ v


def returns_double(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, causal=causal, scale=scale).double()


def never_the_same(q, k, v, *, mask=None, causal=False, scale=None):
    noise = 1e-6 * torch.rand(())
    return right(q, k, v, mask=mask, causal=causal, scale=scale) + noise.to(q.dtype)


def overflows(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    weights = (q @ k.mT * scale).exp()
    allowed = allowed_keys(q, k, mask, causal)
    if allowed is not None:
        weights = weights * allowed
    return weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-30)


def reads_memory_as_it_lies(q, k, v, *, mask=None, causal=False, scale=None):
    k = torch.as_strided(k, k.shape, torch.empty(k.shape).stride())
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def drops_the_rest_of_a_block(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    rest = q.shape[-2] % 8
    if rest and q.shape[-2] > 8:
        output = torch.cat([output[..., :-rest, :], 0 * output[..., -rest:, :]], -2)
    return output


def attention(fast: Callable[..., Tensor], reference: Callable[..., Tensor] = right) -> Attention:
    forwards = {"reference": reference, "fast": fast}
    return Attention("planted", forwards=forwards, metadata=described())


def records_of(variant: Any, *suites: str) -> list[Record]:
    """What the suites say of a variant, in this process."""
    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(variant)
    found: list[Record] = []
    for suite in suites_of(catalog, suites).values():
        given = {"seq_lens": (24,), "variants": (variant.name,)}
        for job in suite.plan(catalog, selection_for("quick", suite.name, given)):
            found += suite.measure(replace(job, catalog=catalog))
    return found


def wrong_metrics(records: list[Record]) -> dict[str, str]:
    """Every metric with a wrong row, and its first reason."""
    wrong: dict[str, str] = {}
    for record in records:
        if record.status == Status.WRONG:
            wrong.setdefault(record.metric, record.reason)
    return wrong


def test_the_scaffold_is_right() -> None:
    records = records_of(attention(fused), "accuracy", "gradient")
    assert {r.status for r in records} <= {Status.OK, Status.UNSUPPORTED}


#: The fast forward, by which metric it must be noticed, and a piece of the reason.
PLANTED: Mapping[Callable[..., Tensor], tuple[str, str]] = {
    leaks: ("no_future_leak", "outputs up to query 0 change"),
    leaks_one_token: ("no_future_leak", "causal_self: outputs up to query 0"),
    upper_left: ("error_ratio", "the output has an RMS error of"),
    ignores_mask: ("mask_obeyed", "when keys and values behind the mask change"),
    inverts_mask: ("error_ratio_masked", "the output has an RMS error of"),
    scales_wrongly: ("error_ratio", "the output has an RMS error of"),
    scales_slightly_wrongly: ("error_ratio", "the output has an RMS error of"),
    ignores_scale: ("arguments_matter", "no effect: scale"),
    softmax_over_queries: ("error_ratio", "the output has an RMS error of"),
    wrong_backward: ("grad_error_ratio", "the gradient of v"),
    wrong_backward_of_keys: ("grad_error_ratio", "the gradient of k"),
    changes_its_input: ("not_mutated", "changed in place: q"),
    wrong_in_bfloat16: ("error_ratio", "the output has an RMS error of"),
    mixes_the_batch: ("batch_independent", "when another example changes"),
    nan_without_keys: ("no_key", "the output is not finite"),
    returns_double: ("dtype_kept", "torch.float64 on cpu, expected"),
    never_the_same: ("deterministic", "two calls differ by"),
    overflows: ("extreme", "inputs of size 1000: the output is NaN"),
    reads_memory_as_it_lies: ("non_contiguous", "with inputs that are not contiguous"),
    drops_the_rest_of_a_block: ("prime", "q_len 131, k_len 131: the output"),
}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda fn: fn.__name__)
def test_a_planted_fault_is_wrong(planted: Callable[..., Tensor]) -> None:
    metric, reason = PLANTED[planted]
    records = records_of(attention(planted), "accuracy", "gradient")
    wrong = wrong_metrics(records)
    assert metric in wrong
    assert reason in wrong[metric]
    assert {r.cell.forward for r in records if r.status == Status.WRONG} == {"fast"}


def test_right_in_float32_and_wrong_in_bfloat16() -> None:
    records = records_of(attention(wrong_in_bfloat16), "accuracy")
    assert {r.cell.case.dtype for r in records if r.status == Status.WRONG} == {"bfloat16"}


def test_gradcheck_notices_a_wrong_backward() -> None:
    assert "gradcheck" in wrong_metrics(records_of(attention(wrong_backward), "gradient"))


def test_a_reference_that_leaks_is_wrong_too() -> None:
    variant = Attention("planted", forwards={"reference": leaks}, metadata=described())
    assert "no_future_leak" in wrong_metrics(records_of(variant, "accuracy"))


def windowed(
    obeys: bool,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    mask=None,
    causal=False,
    scale=None,
) -> Tensor:
    i = torch.arange(q.shape[-2], device=q.device)[:, None] + k.shape[-2] - q.shape[-2]
    band = (i - torch.arange(k.shape[-2], device=q.device)).abs() <= window
    allowed = None if not obeys else band
    if mask is not None:
        allowed = mask if allowed is None else allowed & mask
    return right(q, k, v, mask=allowed, causal=causal, scale=scale)


def obeys_window(q, k, v, **given):
    return windowed(True, q, k, v, **given)


def ignores_window(q, k, v, **given):
    return windowed(False, q, k, v, **given)


@pytest.mark.parametrize("fn", [obeys_window, ignores_window])
def test_an_option_that_is_ignored(fn: Callable[..., Tensor]) -> None:
    identity = Identity(
        "window >= N",
        options=lambda shape: {"window": shape.k_len},
        unless=lambda shape: {"window": 3},
        equals="scaled_dot_product",
    )
    variant = Attention(
        "planted",
        forwards={"reference": fn},
        options={"window": 8},
        identities=(identity,),
        metadata=described(),
    )
    wrong = wrong_metrics(records_of(variant, "accuracy"))
    if fn is obeys_window:
        assert not wrong
    else:
        assert "what it depends on is ignored" in wrong["identity"]
        assert "no effect: window" in wrong["arguments_matter"]


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"monotonic": True}, "declared True, measured False"),
        ({"smooth": False}, "declared False, measured True"),
        ({"range": (-1.0, 1.0)}, "declared (-1, 1), measured (-0.278"),
        ({"range": (-0.5, math.inf)}, "declared (-0.5, inf), measured (-0.278"),
        ({"zero_centred": True}, "declared True, measured False"),
        ({"elementwise": False}, "declared False, measured True"),
    ],
)
def test_a_false_declaration_of_an_activation(declared: dict[str, Any], reason: str) -> None:
    variant = Activation(
        "planted",
        forwards={"reference": lambda x: x * torch.sigmoid(x), "torch": F.silu},
        metadata=described(tags=("hidden_layer",), properties=declared),
    )
    wrong = wrong_metrics(records_of(variant, "accuracy"))
    assert list(wrong) == [f"property_{name}" for name in declared]
    assert next(iter(wrong.values())).startswith(reason)


def test_a_false_declaration_of_an_attention() -> None:
    def sigmoid(q, k, v, *, mask=None, causal=False, scale=None):
        weights = torch.sigmoid(q @ k.mT * (1.0 if scale is None else scale))
        allowed = allowed_keys(q, k, mask, causal)
        return (weights if allowed is None else weights * allowed) @ v

    variant = Attention(
        "planted",
        forwards={"reference": sigmoid},
        metadata=described(properties={"row_stochastic": True}),
    )
    wrong = wrong_metrics(records_of(variant, "accuracy"))
    assert list(wrong) == ["property_row_stochastic"]
    assert wrong["property_row_stochastic"].startswith("declared True, measured False: o with v")


def test_an_argument_declared_unused_that_is_used() -> None:
    variant = Attention(
        "planted",
        forwards={"reference": right, "fused": fused},
        metadata=described(unused=("scale",)),
    )
    wrong = wrong_metrics(records_of(variant, "accuracy"))
    assert wrong == {"arguments_matter": "declared unused, but has an effect: scale"}


def test_an_exception_is_failed_and_not_wrong() -> None:
    def raises(q, k, v, *, mask=None, causal=False, scale=None):
        raise ZeroDivisionError("as planted")

    found = [
        r for r in records_of(attention(raises), "accuracy", "gradient") if r.cell.forward == "fast"
    ]
    assert {r.status for r in found} <= {Status.FAILED, Status.UNSUPPORTED}
    failed = [r for r in found if r.status == Status.FAILED]
    assert len(failed) > 10
    assert {r.reason for r in failed} == {"ZeroDivisionError: as planted"}


def test_what_a_forward_does_not_support_is_an_answer() -> None:
    def only_float32(case: Case) -> str | None:
        return None if case.dtype == "float32" else "only float32 was written"

    variant = attention(fused)
    forwards = {"reference": right, "fast": Forward(fused, supports=only_float32)}
    records = records_of(replace(variant, forwards=forwards), "accuracy", "gradient")
    found = [r for r in records if r.cell.forward == "fast" and r.cell.case.dtype != "float32"]
    assert {r.status for r in found} == {Status.UNSUPPORTED}
    # Some probes are made in float32 alone, and say so before they ask the forward.
    of_probes = {r.metric for r in found if r.reason != "only float32 was written"}
    assert of_probes <= {"second_derivative", "same_when_compiled", "time_of_reference"}


@pytest.mark.parametrize("forwards", [{}, {"fast": Forward(fused, supports=lambda case: "never")}])
def test_a_reference_alone_is_unverified(forwards: dict[str, Forward]) -> None:
    variant = Attention("planted", forwards={"reference": right, **forwards}, metadata=described())
    records = records_of(variant, "accuracy", "gradient")
    ratios = [r for r in records if "error_ratio" in r.metric]
    assert {r.metric for r in ratios} == {"error_ratio", "error_ratio_masked", "grad_error_ratio"}
    assert {(r.status, r.value, r.reason) for r in ratios} == {
        (Status.UNVERIFIED, None, "no independent definition")
    }


def test_a_leak_is_wrong_through_a_whole_run(tmp_path: Path) -> None:
    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(attention(leaks))
    results = bakeoff.run(
        "accuracy",
        catalog=catalog,
        variants="planted",
        seq_lens=16,
        dtypes="float32",
        results=tmp_path / "results.sqlite",
    )
    frame = results.to_pandas()
    wrong = frame[frame.status == "wrong"]
    assert set(wrong.forward) == {"fast"}
    assert {"no_future_leak", "error_ratio"} <= set(wrong.metric)


def _every_planted() -> Iterator[str]:
    yield from (
        name
        for name, fn in globals().items()
        if callable(fn) and getattr(fn, "__module__", "") == __name__ and "scale=None" in _text(fn)
    )


def _text(fn: Any) -> str:
    import inspect

    return inspect.getsource(fn).split("\n")[0]


def test_every_planted_fault_is_tried() -> None:
    tried = {fn.__name__ for fn in PLANTED} | {"right", "fused"}
    assert set(_every_planted()) == tried
