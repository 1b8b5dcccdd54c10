"""The certificate: what goes wrong in real variants is caught, and what is right passes."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_wrong_variants import attention, described, fused, right

import bakeoff
from bakeoff import Activation, Attention, Catalog, Forward
from bakeoff.checking import jobs_of
from bakeoff.suites.records import Record, Status
from bakeoff.suites.spec import suites_of

Tensor = torch.Tensor


def records_of(variant: Any, check: str, **axes: Any) -> list[Record]:
    """What the certificate's cells of one sort say of a variant, in this process."""
    catalog = bakeoff.load(entry_points=False, pyproject=False).with_variants(variant)
    axes = {"dtypes": "float32", **axes}
    found: list[Record] = []
    for job in jobs_of(catalog, variant.name, **axes):
        suite = suites_of(catalog, [job.suite])[job.suite]
        cells = tuple(cell for cell in job.cells if cell.extra["check"] == check)
        if cells:
            found += suite.measure(replace(job, cells=cells, catalog=catalog))
    return found


def wrong_in(records: list[Record]) -> dict[str, str]:
    """Every metric with a row that is wrong or failed, and its first reason."""
    bad: dict[str, str] = {}
    for record in records:
        if record.status in (Status.WRONG, Status.FAILED):
            bad.setdefault(record.metric, record.reason)
    return bad


def squares_a_given_scale(q, k, v, *, mask=None, causal=False, scale=None):
    return right(q, k, v, mask=mask, causal=causal, scale=None if scale is None else scale**2)


def scales_by_the_size_of_values(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(v.shape[-1]) if scale is None else scale
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def reads_a_mask_of_four_dimensions(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is not None:
        mask = mask[:, :, :, :]
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def squeezes(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    return output.squeeze(0).sum(1, keepdim=True).expand_as(output) if len(q) == 1 else output


def makes_a_mask_on_the_cpu(q, k, v, *, mask=None, causal=False, scale=None):
    if causal:
        return right(q, k, v, mask=mask, causal=True, scale=scale)
    every = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    return right(q, k, v, mask=every if mask is None else every & mask, scale=scale)


def returns_to_the_cpu(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    return torch.zeros(output.shape) if q.is_meta else output


def changes_the_mask(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    if mask is not None:
        mask.logical_not_()
    return output


def differs_with_a_graph(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    return output + 0.01 if torch.is_grad_enabled() else output


def nan_at_zero(q, k, v, *, mask=None, causal=False, scale=None):
    size = q.norm(dim=-1, keepdim=True)
    return right(q / size * size, k, v, mask=mask, causal=causal, scale=scale)


def last_sees_the_first_example(q, k, v, *, mask=None, causal=False, scale=None):
    k = torch.cat([k[:-1], k[-1:] + 1e-3 * k[:1]]) if len(k) > 1 else k
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


def counts_on_full_blocks(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    full = q.shape[-2] // 256 * 256
    if 0 < full < q.shape[-2]:
        output = torch.cat([output[..., :full, :], 0 * output[..., full:, :]], -2)
    return output


class _AsItLies(torch.autograd.Function):
    """A backward that reads the gradient as if it were contiguous."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, into):
        return torch.as_strided(into, into.shape, torch.empty(into.shape).stride())


def backward_reads_as_it_lies(q, k, v, *, mask=None, causal=False, scale=None):
    return _AsItLies.apply(right(q, k, v, mask=mask, causal=causal, scale=scale))


class _ForgetsTheMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, allowed):
        ctx.save_for_backward(q, k, v)
        return right(q, k, v, mask=allowed)

    @staticmethod
    def backward(ctx, into):
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            return *torch.autograd.grad(right(*leaves), leaves, into), None


def backward_forgets_the_mask(q, k, v, *, mask=None, causal=False, scale=None):
    if mask is None or scale is not None or causal:
        return right(q, k, v, mask=mask, causal=causal, scale=scale)
    return _ForgetsTheMask.apply(q, k, v, mask)


#: The fast forward, which check must notice it, and a piece of the reason.
PLANTED: Mapping[Callable[..., Tensor], tuple[str, str]] = {
    squares_a_given_scale: ("scale_given", "the output has an RMS error"),
    scales_by_the_size_of_values: ("value_size", "head_dim 12, value_dim 20: the output"),
    reads_a_mask_of_four_dimensions: ("mask_shapes", "IndexError: too many indices"),
    squeezes: ("single", "batch 1, heads 1, kv_heads 1: the output"),
    makes_a_mask_on_the_cpu: ("device_kept", "on another device than the inputs'"),
    returns_to_the_cpu: ("device_kept", "inputs on meta, the output on cpu"),
    changes_the_mask: ("not_mutated", "changed in place: mask"),
    differs_with_a_graph: ("with_a_graph", "when a gradient is wanted"),
    nan_at_zero: ("extreme", "inputs of size 0: the output is NaN"),
    last_sees_the_first_example: ("batch_independent", "when another example changes"),
    backward_reads_as_it_lies: ("non_contiguous", "the gradient of q changes by"),
    backward_forgets_the_mask: ("mask_gradient", "with a random mask: the gradient of"),
}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda fn: fn.__name__)
def test_a_probe_notices(planted: Callable[..., Tensor]) -> None:
    metric, reason = PLANTED[planted]
    records = records_of(attention(planted), "contract")
    assert reason in wrong_in(records)[metric]
    assert {r.cell.forward for r in records if r.metric in wrong_in([r])} == {"fast"}


def test_the_scaffold_passes_every_probe() -> None:
    assert wrong_in(records_of(attention(fused), "contract")) == {}


def test_a_length_beyond_the_usual_block() -> None:
    assert "error_ratio" in wrong_in(records_of(attention(counts_on_full_blocks), "error"))
    short = records_of(attention(counts_on_full_blocks), "error", seq_lens=96)
    assert wrong_in(short) == {}


def windowed(
    after: int, q: Tensor, k: Tensor, v: Tensor, *, window: int, mask=None, causal=False, scale=None
) -> Tensor:
    i = torch.arange(q.shape[-2], device=q.device)[:, None] + k.shape[-2] - q.shape[-2]
    away = i - torch.arange(k.shape[-2], device=q.device)
    reach = window + (after if causal else 0)
    band = (away <= reach) & (away >= -window)
    return right(q, k, v, mask=band if mask is None else band & mask, causal=causal, scale=scale)


@pytest.mark.parametrize("after", [0, 1, -1])
def test_a_window_that_is_off_by_one_where_causal(after: int) -> None:
    """The default window spans the small sizes, so that only other windows show it."""
    variant = Attention(
        "planted",
        forwards={
            "reference": lambda q, k, v, **given: windowed(0, q, k, v, **given),
            "fast": lambda q, k, v, **given: windowed(after, q, k, v, **given),
        },
        options={"window": 128},
        metadata=described(),
    )
    found = wrong_in(records_of(variant, "contract"))
    assert list(found) == (["options_obeyed"] if after else [])
    if after:
        assert "causal_self: the output has" in found["options_obeyed"]


def activation(fn: Callable[..., Tensor], **more: Any) -> Activation:
    return Activation(
        "planted", forwards={"reference": fn}, metadata=described(tags=("hidden_layer",)), **more
    )


@pytest.mark.parametrize(
    ("fn", "metric", "reason"),
    [
        (lambda x: x - x.mean(1, keepdim=True), "batch_independent", "when another row changes"),
        (lambda x: x.softmax(1), "batch_independent", "when another row changes"),
        (lambda x: x * torch.sigmoid(x[:, :, :]), "leading_sizes", "IndexError"),
        (lambda x: x.exp() / (1 + x.exp()), "extreme", "inputs of size 1000: the output is NaN"),
        (lambda x: x / x.abs(), "extreme", "inputs of size 0: the output is NaN"),
        (lambda x: x + torch.zeros(x.shape[-1]), "device_kept", "on another device"),
    ],
)
def test_an_activation_without_a_second_definition(
    fn: Callable[[Tensor], Tensor], metric: str, reason: str
) -> None:
    assert reason in wrong_in(records_of(activation(fn), "contract"))[metric]


def test_a_parameter_without_a_gradient() -> None:
    def slope(features: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        return {"slope": torch.nn.Parameter(torch.full((features,), 0.5))}

    cut = activation(lambda x, *, slope: x * slope.detach(), parameters=slope)
    assert "gradcheck" in wrong_in(records_of(cut, "gradcheck"))
    joined = activation(lambda x, *, slope: x * slope, parameters=slope)
    assert wrong_in(records_of(joined, "gradcheck")) == {}


@pytest.mark.parametrize(
    ("declared", "metric"),
    [
        ({"complexity": "N"}, "flops_exponent"),
        ({"memory": "N"}, "bytes_exponent"),
        ({"flops": lambda case: 1.0}, "flops_declared"),
        ({"min_bytes": lambda case: 1e15}, "bytes_declared"),
        ({"complexity": "N^2", "memory": "N^2"}, ""),
    ],
)
def test_a_false_declaration_of_costs(declared: dict[str, Any], metric: str) -> None:
    variant = Attention(
        "planted", forwards={"reference": Forward(right, **declared)}, metadata=described()
    )
    found = wrong_in(records_of(variant, "counts", patterns="self"))
    assert list(found) == ([metric] if metric else [])


def test_a_forward_may_call_a_module() -> None:
    """In the counts of a backward too."""

    def through_a_module(q, k, v, *, mask=None, causal=False, scale=None):
        output = right(q, k, v, mask=mask, causal=causal, scale=scale)
        return torch.nn.Identity()(output)

    variant = Attention("planted", forwards={"reference": through_a_module}, metadata=described())
    assert wrong_in(records_of(variant, "counts", patterns="self")) == {}


FILE = """
import torch
import torch.nn.functional as F
from bakeoff import Activation, Metadata, hookimpl


def reference(x):
    return x.clamp(min=0) ** 2


def fast(x):
    return {body}


@hookimpl
def bakeoff_variants():
    yield Activation("{name}", forwards={{"reference": reference, "fast": fast}},
        metadata=Metadata(title="Square", summary="Planted.", formula="y", strengths=("short",),
            weaknesses=("none",), use_when="Never.", tags=("hidden_layer",),
            properties={properties}))
"""


def write(folder: Path, body: str, name: str = "planted", properties: str = "{}") -> Path:
    file = folder / "planted.py"
    file.write_text(FILE.format(body=body, name=name, properties=properties))
    return file


def run(folder: Path, *arguments: str, status: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff", "check", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_a_file_that_is_right(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square()", properties='{"range": (0.0, float("inf"))}')
    told = run(tmp_path, "planted.py", status=0).stdout
    assert told.startswith("planted: right\n==")
    assert "Activation from planted.py; " in told
    assert all(len(line) <= 80 for line in told.splitlines())


def test_a_file_that_is_wrong_as_text(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square() * 1.001", properties='{"monotonic": False}')
    told = run(tmp_path, "planted.py", status=1).stdout
    assert told.startswith("planted: wrong\n")
    assert "fast: error_ratio wrong" in told
    assert "- got: the output has an RMS error of" in told
    assert "- expected: at most 2 error budgets" in told
    assert "- look at: planted.py:11" in told
    assert "reference: property_monotonic wrong" in told
    assert "- got: declared False, measured True" in told


def test_json_and_a_crash(tmp_path: Path) -> None:
    write(tmp_path, "torch._C._crash_if_aten_asan(3) if False else __import__('os').abort()")
    told = run(tmp_path, "planted.py", "--format", "json", "--dtype", "float32", status=1).stdout
    (certificate,) = json.loads(told)["certificates"]
    assert (certificate["verdict"], certificate["passed"]) == ("failed", False)
    forwards = {forward["name"]: forward for forward in certificate["forwards"]}
    assert forwards["reference"]["verdict"] == "right"
    crashed = [c for c in forwards["fast"]["checks"] if c["status"] == "crashed"]
    assert {check["got"] for check in crashed} == {"the process was killed by SIGABRT"}
    assert {check["name"] for check in crashed} >= {"accuracy error", "accuracy contract"}


def test_markdown(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square()")
    told = run(
        tmp_path, "planted.py", "--format", "markdown", "--dtype", "float32", status=0
    ).stdout
    assert told.startswith("# planted: right\n")
    assert re.search(r"\| `fast` +\| +right \|", told)


def test_a_breach_of_the_contract_fails(tmp_path: Path) -> None:
    write(tmp_path, "x", name="Not Snake")
    told = run(tmp_path, "planted.py", status=1).stdout
    assert "Left out: it breaks the contract" in told
    assert "name: got 'Not Snake' (str), expected lower_snake_case" in " ".join(told.split())


def test_a_reference_alone_is_unverified(catalog: Catalog) -> None:
    alone = activation(lambda x: x * torch.sigmoid(3 * x))
    certificate = bakeoff.check(alone, catalog=catalog, dtypes="float32")
    assert (certificate.verdict, certificate.passed) == ("unverified", True)
    assert certificate.forwards[0].reason == "no independent definition"
    assert "reference is unverified: there is no second, independent way" in str(certificate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("relo",), "no variant is called 'relo'; did you mean relu?"),
        (("missing.py",), "got 'missing.py', expected a file that there is, or the name"),
        (("empty.py",), "empty.py: it brings no variant"),
        (("relu", "--forward", "torhc"), "did you mean torch?"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty.py").write_text(
        "from bakeoff import hookimpl\n\n\n@hookimpl\ndef bakeoff_variants():\n    return []\n"
    )
    assert message in run(tmp_path, *arguments, status=2).stderr


def _every_planted() -> Iterator[str]:
    for name, fn in globals().items():
        code = getattr(fn, "__code__", None)
        if code and "scale" in code.co_varnames and code.co_filename == __file__:
            yield name


def test_every_planted_fault_is_tried() -> None:
    others = {"counts_on_full_blocks", "windowed"}
    assert set(_every_planted()) == {fn.__name__ for fn in PLANTED} | others
