"""Forwards that remember, wait or write again: wrong in their probe, and wrong in a race."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from remembering import PLANTED, Fast
from test_pytest_plugin import PLUGINS, run
from test_wrong_variants import attention, described, fused, right

import bakeoff
from bakeoff import Attention, Catalog, Variant
from bakeoff.reports.certificate import SLOW
from bakeoff.reports.rows import rows_of
from bakeoff.reports.verdicts import wrong_labels
from bakeoff.suites import repeated_calls, timed_outputs
from bakeoff.suites.benchmarks import results_of
from bakeoff.suites.compilation import same_when_compiled
from bakeoff.suites.fresh_values import FreshValues
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.slowness import time_of_reference
from bakeoff.suites.spec import suites_of
from bakeoff.suites.verdicts import Subject

WRONG = ("timed_output", Status.WRONG)
#: What a forward that is held to itself alone gives away.
NEEDS_A_REFERENCE = ("its_backward", "slightly_off_from_some_call_on", "in_a_thread")
ALIKE = [make for make in PLANTED if make.__name__ not in NEEDS_A_REFERENCE]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def raced(
    catalog: Catalog,
    variant: Variant,
    suite: str = "speed",
    direction: str = "forward",
    **given: Any,
) -> list[Record]:
    catalog = catalog.with_variants(variant)
    chosen = {"seq_lens": (32,), "budget": 0.02, "grids": ("none",), **given}
    chosen |= {"variants": (variant.name,), "directions": (direction,)}
    of, found = suites_of(catalog, (suite,))[suite], []
    for job in of.plan(catalog, selection_for("quick", suite, chosen)):
        if job.cells[0].variant == variant.name and job.cells[0].extra.get("check") != "counts":
            found += of.measure(replace(job, catalog=catalog))
    return found


def of_fast(records: list[Record]) -> list[tuple[str, Status]]:
    return [(r.metric, r.status) for r in records if r.cell.forward == "fast"]


def named(make: Callable[[], Fast]) -> str:
    return make.__name__


# What is planted


@pytest.mark.parametrize("make", PLANTED, ids=named)
def test_its_probe_notices_it(make: Callable[[], Fast]) -> None:
    probe = getattr(repeated_calls, PLANTED[make])
    found = probe(Subject(attention(make()), "fast"))
    assert found.status == Status.WRONG, found
    alone = Attention("planted", forwards={"reference": make()}, metadata=described())
    assert probe(Subject(alone, "reference")).status == Status.WRONG, "a reference alone, too"


@pytest.mark.parametrize("make", PLANTED, ids=named)
def test_a_race_notices_it(catalog: Catalog, make: Callable[[], Fast]) -> None:
    direction = "training" if make.__name__ == "its_backward" else "forward"
    records = raced(catalog, attention(make()), direction=direction)
    assert of_fast(records) == [WRONG], "neither a time nor a ratio"
    others = [r for r in records if r.cell.forward == "reference"]
    assert {"timed_output", "time", "ratio"} <= {r.metric for r in others if r.status == Status.OK}
    assert WRONG not in {(r.metric, r.status) for r in others}


@pytest.mark.parametrize("make", ALIKE, ids=named)
def test_a_race_notices_it_where_the_reference_is_too_dear(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Fast]
) -> None:
    """It is held to itself then, on copies, before the race."""
    monkeypatch.setattr(timed_outputs, "AFFORDABLE", 0)
    assert WRONG in of_fast(raced(catalog, attention(make())))


def test_a_race_over_lengths_notices_it(catalog: Catalog) -> None:
    make = next(m for m in PLANTED if m.__name__ == "by_pointer_and_version")
    records = raced(catalog, attention(make()), "scaling", seq_lens=(24, 32))
    assert of_fast(records) == [WRONG]
    (reason,) = [r.reason for r in records if r.status == Status.WRONG]
    assert reason.startswith("N = 24: the output of a timed call is not that of its inputs")


@pytest.mark.parametrize("probe", repeated_calls.__all__)
def test_what_is_right_passes_its_probe(probe: str) -> None:
    for name in ("reference", "fast"):
        found = getattr(repeated_calls, probe)(Subject(attention(fused), name))
        assert found.status == Status.OK, found


@pytest.mark.parametrize("direction", ["forward", "backward", "training"])
@pytest.mark.parametrize("affordable", [True, False])
def test_what_is_right_has_a_time(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, direction: str, affordable: bool
) -> None:
    if not affordable:
        monkeypatch.setattr(timed_outputs, "AFFORDABLE", 0)
    records = raced(catalog, attention(fused), direction=direction)
    assert {r.status for r in records} <= {Status.OK, Status.UNSUPPORTED}
    assert ("timed_output", Status.OK) in of_fast(records)
    assert ("ratio", Status.OK) in of_fast(records)


def test_what_a_reference_raises_stops_no_race(catalog: Catalog) -> None:
    def only_float32(q, k, v, **given):
        if q.dtype == torch.float64:
            raise TypeError("not in float64")
        return right(q, k, v, **given)

    records = raced(catalog, attention(fused, only_float32))
    assert {r.status for r in records} <= {Status.OK, Status.UNSUPPORTED}
    assert ("timed_output", Status.OK) in of_fast(records)


def test_where_the_baseline_is_wrong_there_is_no_ratio(catalog: Catalog) -> None:
    make = next(m for m in PLANTED if m.__name__ == "by_pointer_and_version")
    records = raced(catalog, attention(make()), baseline="planted:fast")
    ratio = next(r for r in records if r.metric == "ratio")
    assert (ratio.cell.forward, ratio.status) == ("reference", Status.UNSUPPORTED)
    assert ratio.reason.startswith("the baseline planted:fast: the output of a timed call")


# Compiled


def wrong_when_compiled(q, k, v, *, mask=None, causal=False, scale=None):
    output = right(q, k, v, mask=mask, causal=causal, scale=scale)
    return output * 1.05 if torch.compiler.is_compiling() else output


def wrong_gradient_when_compiled(q, k, v, *, mask=None, causal=False, scale=None):
    k = k.detach() if torch.compiler.is_compiling() else k
    return right(q, k, v, mask=mask, causal=causal, scale=scale)


@pytest.mark.filterwarnings("default")  # those of torch.compile itself
def test_wrong_when_compiled() -> None:
    found = same_when_compiled(Subject(attention(wrong_when_compiled), "fast"))
    assert found.status == Status.WRONG
    assert found.reason.startswith("compiled: the output differs by")
    found = same_when_compiled(Subject(attention(wrong_gradient_when_compiled), "fast"))
    assert found.reason.startswith("compiled: the gradient of k differs by")
    assert same_when_compiled(Subject(attention(fused), "fast")).status == Status.OK


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_race_notices_what_is_wrong_when_compiled(catalog: Catalog) -> None:
    for fast in (wrong_when_compiled, fused):
        records = raced(catalog, attention(fast), modes=("compiled",))
        assert (of_fast(records) == [WRONG]) == (fast is wrong_when_compiled)


# Values behind pointers


def test_new_values_can_not_be_told_by_anything_but_the_values() -> None:
    x = torch.randn(4, 32)
    before, values = x.clone(), FreshValues()
    seen = [before]
    for change in (values.settle, values.renew, values.renew):
        change([x])
        assert (x.data_ptr(), x._version) == (x.data_ptr(), 0)
        assert torch.equal(x.flatten().sort().values, before.flatten().sort().values)
        assert torch.equal(x.flatten()[:8], before.flatten()[:8])
        assert not any(torch.equal(x, other) for other in seen)
        seen.append(x.clone())
    values.settle([x])
    assert torch.equal(x, seen[1]), "what is settled is known beforehand"


# Through files


def test_a_wrong_timed_output_is_not_ranked(tmp_path: Path) -> None:
    plugin = tmp_path / "planted.py"
    plugin.write_text(PLUGIN)
    results = bakeoff.run(
        "speed", plugins=[plugin], variants="planted", seq_lens=32, directions="forward",
        budget=0.02, results=tmp_path / "results.sqlite",
    )  # fmt: skip
    assert wrong_labels(rows_of(results.to_pandas())) == {"planted:fast": "timed_output"}


PLUGIN = """
import torch
from bakeoff import Activation, Metadata, hookimpl

seen = {}


def fast(x):
    if x.requires_grad:
        return x.relu().square()
    where = (x.data_ptr(), x._version)
    if where not in seen:
        seen.clear()
        seen[where] = x.relu().square()
    return seen[where].clone()


@hookimpl
def bakeoff_variants():
    yield Activation("planted", forwards={"reference": lambda x: x.clamp(min=0) ** 2, "fast": fast},
        metadata=Metadata(title="P", summary="P", formula="x", strengths="s", weaknesses="w",
                          use_when="u", tags="hidden_layer"))
"""


def test_pytest_benchmark_notices_it(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "planted.py").write_text(PLUGIN)
    given = ("--bakeoff-variant", "planted.py", "--bakeoff-speed", "-k", "planted:fast-128-forward")
    timed = ("--benchmark-max-time", "0.02", "--benchmark-json", "times.json")
    plugins = (*PLUGINS, "-p", "pytest_benchmark.plugin")
    told = run(tmp_path, *given, *timed, plugins=plugins, status=1)
    assert "wrong: the output of a timed call is not that of its inputs" in told
    assert json.loads((tmp_path / "times.json").read_text())["benchmarks"]
    (tmp_path / "made").mkdir()
    results, _ = results_of(tmp_path / "times.json", tmp_path / "made")
    frame = results.to_pandas()
    wrong = frame[frame.status == "wrong"]
    assert set(wrong.metric) == {"timed_output"}
    assert set(wrong.forward) == {"fast"}
    assert set(wrong.direction) == {"forward"}


# Slow


def test_a_slow_forward_is_told() -> None:
    def slow(q, k, v, *, mask=None, causal=False, scale=None):
        for _ in range(40):
            output = right(q, k, v, mask=mask, causal=causal, scale=scale)
        return output

    found = time_of_reference(Subject(attention(slow), "fast"))
    assert found.status == Status.OK
    assert found.value is not None
    assert found.value > SLOW
    assert found.reason == "at N = 521"
