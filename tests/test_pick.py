"""What is picked from known results, and what is ruled out by what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from synthetic import BASELINE, cells

import bakeoff
from bakeoff.cli.pick import pick as command
from bakeoff.picking import pick
from bakeoff.registry.errors import UnknownNameError, UsageError
from bakeoff.reports.pick.candidates import Candidate
from bakeoff.reports.pick.document import document, to_json
from bakeoff.reports.pick.pick import Pick
from bakeoff.reports.pick.values import value_at
from bakeoff.reports.rows import Row
from bakeoff.reports.text import markdown, terminal
from bakeoff.suites.environment import digest_of, environment
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.store import Store

METADATA = bakeoff.Metadata(
    title="Planted", summary="A known one.", formula="o", strengths=("known",),
    weaknesses=("planted",), use_when="In tests.", tags=("soft", "self"),
)  # fmt: skip
NAMES = (
    "additive",
    "linear",
    "refuses",
    "scaled_dot_product",
    "sliding_window",
    "twin",
    "wrong_one",
)
LATENT = ("never_run",)


@pytest.fixture(scope="module")
def planted(catalog: bakeoff.Catalog) -> bakeoff.Catalog:
    def fn(q: Any, k: Any, v: Any, *, mask: Any = None, causal: bool = False, scale: Any = None):
        return v

    variants = [
        bakeoff.Attention(
            name, forwards={"reference": fn},
            metadata=replace(METADATA, tags=("soft", "local") if name == "linear" else ("soft",)),
        )
        for name in (*NAMES, *LATENT)
    ]  # fmt: skip
    return bakeoff.Catalog({variant.name: variant for variant in variants})


def write(path: Path, own: Iterable[tuple[Cell, list[Record]]], machine: Mapping[str, Any]) -> Path:
    with Store(path) as store:
        for cell, records in own:
            identity = Identified(digest_of([cell.axes(), machine]), "", "", machine)
            store.add(identity, cell, records)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pick") / "here.sqlite"
    return write(path, [*cells(2), *further()], environment())


def further() -> Iterable[tuple[Cell, list[Record]]]:
    """Approximation errors and what was learnt."""
    for cell, records in cells(1):
        if records[0].metric == "max_abs_error" and cell.variant == "linear":
            extra = replace(cell, case=replace(cell.case, pattern="cross"))
            yield (
                extra,
                [Record(extra, "approximation_error", 0.3), Record(extra, "error_ratio", 0.5)],
            )
            for task, value, low in (("digits", 0.97, 0.95), ("recall", 0.4, 0.3)):
                learnt = replace(extra, suite="learning", extra={"task": task})
                yield learnt, [Record(learnt, "task_accuracy", value, "", low, 1.0, 5)]


@pytest.fixture
def asked(file: Path, planted: bakeoff.Catalog):
    def ask(seq_len: int = 8192, **more: Any) -> Pick:
        given = {"pattern": "self", "results": file, "catalog": planted, **more}
        return pick("attention", seq_len, **given)

    return ask


def out_of(found: Pick) -> dict[str, str]:
    return {
        c.rival: "; ".join(f"{r.rule} {r.found}".strip() for r in c.out) for c in found.ruled_out
    }


def first(found: Pick) -> Candidate:
    assert found.taken is not None
    return found.taken


def test_the_fastest_right_one_is_taken(asked) -> None:
    found = asked()
    assert first(found).rival == "linear:chunked"
    assert first(found).baseline == BASELINE
    ratios = [c.ratio.value for c in found.fitting if c.ratio]
    assert ratios == sorted(ratios)
    assert not found.estimated


def test_wrong_is_never_picked(asked) -> None:
    for length in (128, 512, 2048, 8192):
        found = asked(length)
        assert "wrong_one" not in {c.variant for c in found.fitting}
    assert out_of(found)["wrong_one:fast"].startswith("wrong no_future_leak, error_ratio")


def test_the_planted_winner_would_have_won(tmp_path: Path, planted: bakeoff.Catalog) -> None:
    """The control: the same numbers without a wrong row."""
    own = [
        (cell, [replace(r, status=Status.OK) if r.status == Status.WRONG else r for r in records])
        for cell, records in cells(1)
    ]
    path = write(tmp_path / "right.sqlite", own, environment())
    found = pick("attention", 128, pattern="self", results=path, catalog=planted)
    assert first(found).rival == "wrong_one:fast"


def test_equals_are_told(asked) -> None:
    found = asked(128)
    assert first(found).rival == BASELINE
    assert found.tied == ("twin:sdpa",)
    assert "no measurable difference to twin:sdpa" in text(found)


def test_a_limit_on_memory(asked) -> None:
    free, limited = asked(8192), asked(8192, max_memory=40 * 2**20)
    assert {c.variant for c in limited.fitting} == {"linear", "sliding_window"}
    reason = out_of(limited)[BASELINE]
    assert reason.startswith("more memory than 40.0 MiB")
    assert BASELINE not in out_of(free)
    nothing = asked(8192, max_memory=1.0)
    assert nothing.taken is None
    assert "Nothing keeps every limit" in text(nothing)


def test_what_is_wanted_must_have_been_judged(asked) -> None:
    assert out_of(asked(dtype="bfloat16"))["wrong_one:fast"].startswith("wrong")
    # additive has no independent definition, which is said and rules nothing out.
    remarks = {c.rival: c.remarks for c in asked(2048).fitting}
    assert remarks["additive:reference"] == ("unverified: no independent definition",)


def test_what_was_not_judged_in_this_dtype_is_ruled_out(
    tmp_path: Path, planted: bakeoff.Catalog
) -> None:
    own = [(cell, records) for cell, records in cells(1) if cell.suite != "gradient"]
    path = write(tmp_path / "forward.sqlite", own, environment())
    given: dict[str, Any] = {"pattern": "self", "results": path, "catalog": planted}
    assert pick("attention", 512, **given).taken is not None
    trained = pick("attention", 512, train=True, **given)
    assert trained.taken is None
    assert out_of(trained)[BASELINE] == "whether its gradient is right in float32 was not measured"


def test_what_cant_run_is_ruled_out_by_its_own_reason(asked) -> None:
    found = out_of(asked(8192, train=True))
    assert found["refuses:reference"].startswith("unsupported: it needs a grid")
    assert found["additive:reference"].startswith("timeout: no sign of life")
    assert found["scaled_dot_product:reference"].startswith("oom: can't allocate memory")


def test_approximations_are_held_to_a_limit(asked) -> None:
    assert first(asked()).remarks[1] == "an approximation, 30% away from what it stands for"
    found = asked(max_approximation_error=0.1)
    assert out_of(found)["linear:chunked"] == "an approximation error above 0.1 0.300"
    assert first(asked(max_approximation_error=0.3)).variant == "linear"


def test_accuracy_on_a_task(asked) -> None:
    """The lower end of the interval counts; what was not measured does not fit."""
    assert {c.variant for c in asked(min_accuracy={"digits": 0.94}).fitting} == {"linear"}
    found = asked(min_accuracy={"digits": 0.96})
    assert found.taken is None
    assert out_of(found)["linear:chunked"] == "an accuracy on digits below 0.96 0.950"
    assert out_of(found)[BASELINE] == "its accuracy on digits was not measured"


def test_tags_narrow(asked, planted: bakeoff.Catalog) -> None:
    assert {c.variant for c in asked(tags=["local"]).fitting} == {"linear"}
    with pytest.raises(UnknownNameError, match="no tag is called 'lokal'"):
        asked(tags=["lokal"])
    with pytest.raises(UsageError, match="has all of these tags"):
        asked(tags=["local", "vision"])


def test_what_was_never_measured_is_named(asked) -> None:
    assert asked().unmeasured == LATENT
    assert "never_run" in text(asked())


# Lengths


def row(value: float) -> Row:
    return Row({}, 0, "", "", "time", value, "s", value * 0.9, value * 1.1, 9, "ok", "", "", 0.0)


@pytest.mark.parametrize(
    ("length", "value", "estimated"),
    [(128, 1.0, False), (256, 4.0, True), (1024, 64.0, True), (64, 0.25, True)],
)
def test_between_and_beyond_lengths(length: int, value: float, estimated: bool) -> None:
    """On a power law the line through two points is exact."""
    found = value_at(length, {n: row((n / 128) ** 2) for n in (128, 512)})
    assert found is not None
    assert found.value == pytest.approx(value)
    assert found.estimated is estimated
    assert (found.low is None) is estimated


def test_one_length_says_nothing_of_another() -> None:
    assert value_at(256, {128: row(1.0)}) is None


def test_an_estimate_is_labelled(asked) -> None:
    found = asked(1024)
    assert found.estimated
    assert found.tied == ()
    told = " ".join(text(found).split())
    assert "N = 1024 was not measured" in told
    assert "--measure measures this length" in told
    assert "≈" in told
    assert "≈" not in text(asked(512))


# The machine, the case


def test_only_this_machine_counts(tmp_path: Path, planted: bakeoff.Catalog, file: Path) -> None:
    other = {**environment(), "cpu": "another"}
    path = write(tmp_path / "other.sqlite", cells(1), other)
    with pytest.raises(UsageError, match="nothing of attention measured on this machine"):
        pick("attention", 512, results=path, catalog=planted)
    write(path, [c for c in cells(1) if c[0].variant != "linear"], environment())
    found = pick("attention", 8192, pattern="self", results=path, catalog=planted)
    assert found.elsewhere == 1
    assert "linear" in found.unmeasured
    assert "1 other environment in the file" in " ".join(text(found).split())


def test_an_open_size_must_be_said(tmp_path: Path, planted: bakeoff.Catalog, file: Path) -> None:
    own = list(cells(1))
    wide = [
        (changed, [replace(record, cell=changed) for record in records])
        for cell, records in own
        if cell.suite == "speed" and cell.case.kind == "attention"
        for shape in [replace(cell.case.attention_shape, heads=8, kv_heads=8)]
        for changed in [replace(cell, case=replace(cell.case, shape=shape))]
    ]
    path = write(tmp_path / "two.sqlite", [*own, *wide], environment())
    given: dict[str, Any] = {"pattern": "self", "results": path, "catalog": planted}
    with pytest.raises(UsageError, match=r"several values of heads \(4, 8\).*--heads"):
        pick("attention", 512, **given)
    assert pick("attention", 512, heads=8, **given).situation["heads"] == 8
    with pytest.raises(UsageError, match="head: no such size"):
        pick("attention", 512, head=8, **given)


# As text, and as a command


def text(found: Pick) -> str:
    return terminal(document(found))


def test_as_text_and_json(asked) -> None:
    found = asked(8192, max_memory=40 * 2**20)
    assert max(map(len, text(found).splitlines())) <= 80
    told = markdown(document(found))
    assert "| `linear:reference` " in told
    data = json.loads(to_json(found))
    assert data["pick"] == "linear:chunked"
    assert {"rule", "found"} == set(data["ruled_out"][0]["ruled_out_by"][0])


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--causal", "--pattern", "cross"], "short for --pattern causal_self"),
        (["--max-memory", "much"], "expected a size such as 8GiB"),
        (["--min-accuracy", "digits"], "expected TASK:SHARE"),
        (["--min-accuracy", "digits:90"], "expected TASK:SHARE"),
    ],
)
def test_the_command_says_what_it_wants(given: list[str], told: str) -> None:
    done = invoke("--kind", "attention", "--seq-len", 512, *given)
    assert done.exit_code == 2
    assert told in done.output


@pytest.mark.slow
def test_the_command_measures_what_is_missing(tmp_path: Path) -> None:
    done = invoke(
        "--kind", "connection", "--tag", "skip,gated", "--seq-len", 32, "--features", 32,
        "--train", "--results", tmp_path / "r.sqlite", "--measure", "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["pick"].startswith("highway:")
    assert not data["estimated"]
    assert data["unmeasured"] == []
