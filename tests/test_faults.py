"""Known faults of torch: what is there is found, what is not is not, and only proof blames."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_wrong_variants import described

import bakeoff
from bakeoff import Activation, Catalog, blaming, checking
from bakeoff.blaming import causes_of
from bakeoff.checking import jobs_of
from bakeoff.reports.certificate import Certificate, Check
from bakeoff.reports.rows import Row
from bakeoff.suites.environment import KERNELS, environment
from bakeoff.suites.faults import trials
from bakeoff.suites.faults.fault import Answer, Fault, State, diagnose
from bakeoff.suites.faults.known import FAULTS, devices_here
from bakeoff.suites.spec import Job
from bakeoff.suites.supervisor import Limits

Tensor = torch.Tensor
PRODUCT = FAULTS[0]


# What is tried


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_can_be_tried_here(fault: Fault) -> None:
    """It changes nothing of the process, and says the same again."""
    state = torch.get_rng_state()
    found = diagnose([fault, fault], devices_here())
    assert torch.equal(torch.get_rng_state(), state)
    assert State.UNDETERMINED not in {diagnosis.state for diagnosis in found}
    assert found[: len(found) // 2] == found[len(found) // 2 :]


def test_faults_are_described() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert fault.summary.endswith(".")
        assert fault.consequence.endswith(".")
        assert fault.workaround.endswith(".")
        assert fault.report.startswith("https://github.com/") or not fault.report
        assert bool(fault.environment) == bool(fault.checks), "blame needs a proof"


def test_torch_of_the_constraints_has_these_faults() -> None:
    """A later torch may have fewer: then the list, and what depends on it, is old."""
    if not torch.__version__.startswith("2.13."):
        pytest.skip("another version of torch")
    found = {d.fault.name: d.state for d in diagnose(FAULTS, ["cpu"])}
    machine = found.pop("bfloat16_product_beyond_its_edge")  # a matter of the CPU
    assert machine in (State.PRESENT, State.ABSENT)
    assert {name for name, state in found.items() if state == State.ABSENT} == {
        "row_without_keys_is_nan"
    }


def reads_beyond_its_edge(one: Tensor, other: Tensor) -> Tensor:
    """As the kernel does: a multiple of 32 columns, of what lies in memory, times zeros."""
    rows, inner = one.shape
    size = -(-inner // 32) * 32
    if one.dtype != torch.bfloat16 or inner < 32 or one.stride(1) != 1:
        return torch.mm(one, other)
    memory = one.as_strided((one.untyped_storage().size() // 2,), (1,), 0)
    places = one.storage_offset() + one.stride(0) * torch.arange(rows)[:, None] + torch.arange(size)
    beyond = memory[places.clamp(max=memory.numel() - 1)]
    filled = torch.zeros(size, other.shape[1], dtype=other.dtype)
    filled[:inner] = other
    return torch.mm(beyond, filled)


def test_a_planted_product_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in agrees with torch where nothing lies beyond, so that only the fault shows."""
    whole = torch.randn(8, 64).bfloat16()
    torch.testing.assert_close(reads_beyond_its_edge(whole, whole.mT), whole @ whole.mT)
    monkeypatch.setattr(Tensor, "__matmul__", reads_beyond_its_edge)
    (found,) = diagnose([PRODUCT], ["cpu"])
    assert found.state == State.PRESENT
    assert found.answer is not None
    assert found.answer.got > 1000


def test_a_right_product_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that copies what it is handed, and adds up in float32."""

    def copies(one: Tensor, other: Tensor) -> Tensor:
        if one.dtype == torch.bfloat16:
            return torch.mm(one.float(), other.float()).bfloat16()
        return torch.mm(one, other)

    monkeypatch.setattr(Tensor, "__matmul__", copies)
    assert diagnose([PRODUCT], ["cpu"])[0].state == State.ABSENT


def test_attention_without_the_faults_has_none(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = catalog["scaled_dot_product"].forward("reference").fn

    def attend(
        *tensors: Tensor, attn_mask: Any = None, is_causal: bool = False, scale: Any = None
    ) -> Tensor:
        return reference(*tensors, mask=attn_mask, causal=is_causal, scale=scale)

    monkeypatch.setattr(trials.F, "scaled_dot_product_attention", attend)
    assert not trials.causal_with_a_cache("cpu").wrong
    assert not trials.causal_with_a_negative_scale("cpu").wrong
    assert not trials.row_without_keys("cpu").wrong


def test_a_softmax_of_nothing_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    def naive(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor) -> Tensor:
        return (q @ k.mT).masked_fill(~attn_mask, -torch.inf).softmax(-1) @ v

    monkeypatch.setattr(trials.F, "scaled_dot_product_attention", naive)
    assert trials.row_without_keys("cpu").wrong


def test_plain_attention_gives_lowest_scores_weights_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor) -> Tensor:
        return (q @ k.mT + attn_mask).softmax(-1) @ v

    monkeypatch.setattr(trials.F, "scaled_dot_product_attention", plain)
    assert not trials.row_of_lowest_scores("cpu").wrong


def test_right_slopes_and_series_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.F, "hardsigmoid", lambda x: (x / 6 + 0.5).clamp(0, 1))
    assert not trials.hard_activations("cpu").wrong
    monkeypatch.setattr(trials.F, "tanhshrink", lambda x: x**3 / 3 - 2 * x**5 / 15)
    assert not trials.tanhshrink_near_zero("cpu").wrong


def test_a_counter_that_counts_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what our own counting adds."""
    from bakeoff.suites.counting import _UNCOUNTED

    counter = torch.utils.flop_counter.FlopCounterMode
    monkeypatch.setattr(
        "torch.utils.flop_counter.FlopCounterMode",
        lambda display: counter(display=display, custom_mapping=_UNCOUNTED),
    )
    assert not trials.fused_attention_counted("cpu").wrong
    assert not trials.products_counted("cpu").wrong


def test_nan_is_wrong_and_what_fails_is_undetermined() -> None:
    assert Answer(float("nan"), 0, 1e9).wrong
    assert not Answer(1, 1.5, 0.5).wrong

    def fails(device: str) -> Answer:
        raise AttributeError("no such operation\nand more")

    (found,) = diagnose([replace(PRODUCT, trial=fails)], ["cpu"])
    assert (found.state, found.reason) == (
        State.UNDETERMINED,
        "AttributeError: no such operation",
    )


def test_a_workaround_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured without a fault is not taken for what this machine does."""
    for name in KERNELS:
        monkeypatch.delenv(name, raising=False)
    plain = environment.__wrapped__()
    for fault in FAULTS:
        assert fault.environment.keys() <= set(KERNELS)
        with monkeypatch.context() as patch:
            for name, value in fault.environment.items():
                patch.setenv(name, value)
            told = {"kernels": fault.environment} if fault.environment else {}
            assert environment.__wrapped__() == {**plain, **told}


# Who is at fault

DTYPES = ("float32", "bfloat16")

#: A product of torch's that is wrong for strided matrices, unless this is set.
PLANTED = replace(
    PRODUCT,
    name="planted",
    summary="Strided inputs are off.",
    report="https://example.com/1",
    trial=lambda device: Answer(1, 0),
    environment={"BAKEOFF_TEST_WITHOUT_THE_FAULT": "1"},
)


def torch_is_at_fault(x: Tensor) -> Tensor:
    import os

    faulty = x.dtype == torch.bfloat16 and not x.is_contiguous()
    off = faulty and "BAKEOFF_TEST_WITHOUT_THE_FAULT" not in os.environ
    return x.relu().square() + 100 * float(off)


def is_at_fault_itself(x: Tensor) -> Tensor:
    faulty = x.dtype == torch.bfloat16 and not x.is_contiguous()
    return x.relu().square() + 100 * float(faulty)


def fails_in_float32_too(x: Tensor) -> Tensor:
    faulty = x.dtype == torch.float32 and not x.is_contiguous()
    return torch_is_at_fault(x) + 100 * float(faulty)


def certified(catalog: Catalog, fast: Callable[[Tensor], Tensor]) -> Certificate:
    def reference(x: Tensor) -> Tensor:
        return x.clamp(min=0) ** 2

    variant = Activation(
        "planted", forwards={"reference": reference, "fast": fast}, metadata=described()
    )
    return bakeoff.check(variant, catalog=catalog, forwards="fast", dtypes=DTYPES)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is known and present, and of a certificate the probes are made alone."""

    def probes(catalog: Catalog, name: str, **axes: Any) -> list[Job]:
        found = []
        for job in jobs_of(catalog, name, **axes):
            cells = tuple(cell for cell in job.cells if cell.extra["check"] == "contract")
            found += [replace(job, cells=cells)] if cells else []
        return found

    monkeypatch.setattr(checking, "jobs_of", probes)
    monkeypatch.setattr(blaming, "FAULTS", (PLANTED,))


def strided(certificate: Certificate) -> Check:
    fast = next(forward for forward in certificate.forwards if forward.name == "fast")
    return next(check for check in fast.checks if check.name == "non_contiguous")


@pytest.mark.usefixtures("planted")
def test_the_certificate_says_who_is_at_fault(catalog: Catalog) -> None:
    certificate = certified(catalog, torch_is_at_fault)
    check = strided(certificate)
    assert check.status == "wrong"
    assert check.cause is not None
    assert (check.cause.name, check.cause.report) == ("planted", PLANTED.report)
    assert "- torch is at fault: Strided inputs are off." in str(certificate)
    assert f"- workaround: {PLANTED.workaround}"[:50] in str(certificate)
    assert PLANTED.report in str(certificate)
    data = json.loads(json.dumps(certificate.to_json()))
    causes = [c["cause"] for f in data["forwards"] for c in f["checks"] if c["cause"]]
    assert [cause["name"] for cause in causes] == ["planted"]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("fast", [is_at_fault_itself, fails_in_float32_too])
def test_a_forward_with_a_fault_of_its_own_is_not_excused(
    catalog: Catalog, fast: Callable[[Tensor], Tensor]
) -> None:
    check = strided(certified(catalog, fast))
    assert (check.status, check.cause) == ("wrong", None)


@pytest.mark.parametrize(
    "fault",
    [
        replace(PLANTED, trial=lambda device: Answer(0, 0)),
        replace(PLANTED, devices=("cuda",)),
        replace(PLANTED, dtypes=("float16",)),
        replace(PLANTED, checks=("extreme",)),
        replace(PLANTED, environment={}),
    ],
    ids=["absent", "another device", "another dtype", "another check", "no proof"],
)
def test_a_fault_that_does_not_match_is_not_suspected(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    axes = {"forward": "fast", "device": "cpu", "dtype": "bfloat16"}
    numbers = (None, "", None, None, None)
    row = Row(axes, 0, "", "", "non_contiguous", *numbers, "wrong", "", "", 0.0)
    tried = []
    monkeypatch.setattr(blaming, "_passed_without", lambda fault, *_: tried.append(fault) or set())
    for one, times in ((fault, 0), (PLANTED, 1)):
        monkeypatch.setattr(blaming, "FAULTS", (one,))
        assert causes_of([row], [], Catalog({}), Limits(1.0)) == {}
        assert len(tried) == times
