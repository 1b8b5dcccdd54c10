"""What a certificate says of a fault: which input, which numbers, where to look, causes first."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from test_check import activation, records_of, wrong_in
from test_recurrence import planted as recurrent
from test_wrong_variants import attention, described, wrong_backward, wrong_backward_of_keys

import bakeoff
from bakeoff import Activation, Attention, Catalog, Connection
from bakeoff.checking import CAUSES, checks_of, guide_to
from bakeoff.registry.shapes import Case
from bakeoff.reports.certificate import certificate_of
from bakeoff.reports.rows import Row
from bakeoff.suites.builtin.gradient import TINY_FEATURES, _gradcheck
from bakeoff.suites.derivatives import worst_difference
from bakeoff.suites.properties import measured
from bakeoff.suites.records import AXES, Cell, Status
from bakeoff.suites.tensors import arguments_for
from bakeoff.suites.verdicts import Subject

Tensor = torch.Tensor
DIFFERENCE = re.compile(
    r"the gradient of (\w+): d output\[[\d, ]+\] / d (\w+)\[[\d, ]+\]: "
    r"the backward gives (\S+), differences of the forward (\S+)"
)


def slope(features: int, generator: torch.Generator | None) -> Mapping[str, Tensor]:
    return {"slope": torch.nn.Parameter(torch.full((features,), 0.5))}


@pytest.mark.parametrize(
    ("variant", "name", "factor"),
    [
        (attention(wrong_backward), "v", 2),
        (attention(wrong_backward_of_keys), "k", 0),
        (activation(lambda x, *, slope: x * slope.detach(), parameters=slope), "slope", 0),
    ],
    ids=["an input", "another", "a parameter"],
)
def test_gradcheck_names_what_differs_and_by_how_much(variant: Any, name: str, factor: int) -> None:
    reason = wrong_in(records_of(variant, "gradcheck"))["gradcheck"]
    found = DIFFERENCE.fullmatch(reason)
    assert found, reason
    assert found[1] == found[2] == name
    assert float(found[3]) == pytest.approx(factor * float(found[4]), rel=1e-4)
    assert abs(float(found[4])) > 1e-3


def test_where_all_agrees_nothing_differs() -> None:
    leaves = {name: torch.randn(3, dtype=torch.float64, requires_grad=True) for name in "ab"}
    assert worst_difference(lambda a, b: a.sin() * b, leaves) == ""
    # A NaN is a difference too.
    assert "the gradient of a" in worst_difference(lambda a, b: (a - a).sqrt() + b, leaves)


def soft(x: Tensor) -> Tensor:
    return x * torch.tanh(torch.nn.functional.softplus(x))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_what_is_compiled_may_have_been_used_before(backend: str) -> None:
    """A plain backward lets torch give away the buffers that gradcheck needs again."""
    compiled = torch.compile(soft, backend=backend)
    variant = Activation(
        "planted", forwards={"reference": soft, "fast": compiled}, metadata=described()
    )
    case = Case(kind="activation", shape=TINY_FEATURES, dtype="float64", direction="training")
    x = arguments_for(variant, case).data["x"].requires_grad_()
    torch.autograd.grad(compiled(x).sum(), x)
    with pytest.raises(RuntimeError, match="donated buffers"):
        torch.autograd.gradcheck(compiled, (x,))
    cell = Cell("gradient", 1, "planted", "fast", case, {"check": "gradcheck"})
    assert _gradcheck(variant, cell).status == Status.OK


def with_property(fn: Callable[..., Tensor], **properties: Any) -> Subject:
    about = described(tags=("hidden_layer",), properties=properties)
    variant = Activation("planted", forwards={"reference": fn}, metadata=about)
    return Subject(variant, "reference", "float64")


@pytest.mark.parametrize(
    ("fn", "name", "declared", "example"),
    [
        (lambda x: x.softmax(-1), "elementwise", True, r"x\[\d, \d+, 0\] \+ 1\.5 moves y\[(.*)\] "
         r"from (\S+) to (\S+)"),
        (torch.square, "monotonic", True, r"φ\((\S+)\) = (\S+), φ\((\S+)\) = (\S+)"),
        (lambda x: (x - 1).relu(), "smooth", True, r"φ′\((\S+)\) = 0, φ′\((\S+)\) = 1"),
        (torch.tanh, "range", (-0.5, 1.0), r"φ\((\S+)\) = (-1|-0.9\S+) and φ\((\S+)\) = 1"),
        (torch.exp, "zero_centred", True, r"E\[φ\(z\)\] = 1\.64872 for z ~ N\(0, 1\)"),
    ],
    ids=lambda given: given if isinstance(given, str) and given.isidentifier() else "",
)  # fmt: skip
def test_a_property_of_an_activation_has_a_counterexample(
    fn: Callable[[Tensor], Tensor], name: str, declared: Any, example: str
) -> None:
    verdict = measured(with_property(fn, **{name: declared}), name)
    assert verdict.status == Status.WRONG
    assert verdict.reason.startswith("declared ")
    found = re.search(example, verdict.reason)
    assert found, verdict.reason


def test_the_counterexample_is_one() -> None:
    reason = measured(with_property(torch.square, monotonic=True), "monotonic").reason
    x, y, later, below = map(float, re.findall(r"φ\((\S+)\) = ([^\s,]+)", reason)[0] + (
        re.findall(r"φ\((\S+)\) = ([^\s,]+)", reason)[1]
    ))  # fmt: skip
    assert x < later
    assert y > below
    assert (y, below) == pytest.approx((x**2, later**2), rel=1e-4)


def twice(q, k, v, *, mask=None, causal=False, scale=None):
    return 2 * bakeoff.masked_softmax(q @ k.mT, bakeoff.allowed_keys(q, k, mask, causal)) @ v


def test_other_properties_have_one_too() -> None:
    about = described(properties={"row_stochastic": True})
    variant = Attention("planted", forwards={"reference": twice}, metadata=about)
    told = measured(Subject(variant, "reference", "float64"), "row_stochastic").reason
    found = re.search(r"o with v \+ 1: o\[[\d, ]+\]: got (\S+), expected (\S+)", told)
    assert found, told
    assert float(found[1]) - float(found[2]) == pytest.approx(1)

    about = described(tags=("skip",), properties={"identity_path": True, "stochastic": True})
    half = Connection(
        "planted", forwards={"reference": lambda x, branch: x / 2 + branch(x)}, metadata=about
    )
    subject = Subject(half, "reference", "float64")
    told = measured(subject, "identity_path").reason
    found = re.search(r"with a branch of zeros x\[.*\] = (\S+), y\[.*\] = (\S+)", told)
    assert found, told
    assert float(found[1]) == pytest.approx(2 * float(found[2]), rel=1e-4)
    assert measured(subject, "stochastic").reason.endswith("noise returns nothing")


def works_in_place(x: Tensor) -> Tensor:
    return x.mul_(1 / (1 + torch.exp(-x)))


def test_the_cause_comes_first_and_the_advice_is_of_the_exception(catalog: Catalog) -> None:
    variant = Activation(
        "planted",
        forwards={"reference": torch.nn.functional.silu, "fast": works_in_place},
        metadata=described(tags=("hidden_layer",)),
    )
    certificate = bakeoff.check(variant, catalog=catalog, dtypes="float32")
    fast = next(forward for forward in certificate.forwards if forward.name == "fast")
    failed = [check for check in fast.checks if not check.passed]
    assert failed[0].name == "not_mutated"
    assert fast.reason.startswith("not_mutated: ")
    raised = [check for check in failed if "in-place operation" in check.got]
    assert {"extreme", "gradcheck", "with_a_graph"} <= {check.name for check in raised}
    for check in raised:
        assert "operations in place (+=" in check.look
        assert "exp of large" not in check.look
    assert str(certificate).index("fast: not_mutated wrong") < str(certificate).index("extreme")


def row(metric: str, status: str, reason: str = "", check: str = "contract") -> Row:
    extra = f'{{"check":"{check}"}}'
    named = {"suite": "accuracy", "kind": "attention", "variant": "planted", "seq_len": 8,
             "forward": "reference", "dtype": "float32", "extra": extra}  # fmt: skip
    axes = {**dict.fromkeys(AXES), **named}
    return Row(axes, 0, "planted:reference", "planted:reference", metric, None, "", None, None,
               None, status, reason, "", 0.0)  # fmt: skip


def step(q, k, v, state=None, **same):
    return q, state


def test_what_is_wrong_has_the_advice_of_its_check() -> None:
    guide = guide_to(recurrent(step))
    assert guide.advice(row("extreme", "wrong")).startswith("exp of large numbers")
    assert guide.advice(row("extreme", "failed", "IndexError: …")) == ""
    assert guide.advice(row("leading_sizes", "failed", "IndexError: …")).startswith("dimensions")
    inside = "RuntimeError: one of the variables … has been modified by an inplace operation"
    assert guide.advice(row("leading_sizes", "failed", inside)).startswith("operations in place")


def test_a_recurrence_has_its_own_line() -> None:
    variant = recurrent(step)
    rows = [row("recurrence", "wrong", check="recurrence"), row("extreme", "wrong")]
    (forward,) = certificate_of(rows, "planted", "", guide_to(variant)).forwards
    places = {check.name: check.look.partition(";")[0] for check in forward.checks}
    line = inspect.getsourcelines(step)[1]
    assert places["recurrence"].endswith(f"test_messages.py:{line}")
    assert not places["extreme"].endswith(f"test_messages.py:{line}")
    assert "test_recurrence.py:" in places["extreme"]


def test_causes_stand_before_their_symptoms_whatever_was_made_first() -> None:
    guide = guide_to(recurrent(step))
    made = ("error_ratio", "extreme", "deterministic", "gradcheck", "not_mutated", "dtype_kept")
    rows = [row(name, "failed" if name == "extreme" else "wrong", name) for name in made]
    (forward,) = certificate_of(rows, "planted", "", guide).forwards
    names = [check.name for check in forward.checks]
    assert names == ["not_mutated", "deterministic", "dtype_kept", "error_ratio", "extreme",
                     "gradcheck"]  # fmt: skip
    assert (forward.verdict, forward.reason) == ("wrong", "not_mutated: not_mutated")


def test_every_cause_is_a_check(catalog: Catalog) -> None:
    names = ("sliding_window", "leaky_relu", "residual")
    known = {check for name in names for own in checks_of(catalog, name).values() for check in own}
    assert set(CAUSES) <= known
    assert len(set(CAUSES)) == len(CAUSES)
