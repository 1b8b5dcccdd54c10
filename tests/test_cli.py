"""The command line, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from synthetic import write_results

import bakeoff
from bakeoff.registry.metadata import SECTIONS

LEAK = """
from bakeoff import Attention, Metadata, hookimpl, masked_softmax


def reference(q, k, v, *, mask=None, causal=False, scale=None):
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return masked_softmax(scores, mask) @ v


@hookimpl
def bakeoff_variants():
    yield Attention("leaky_attention", forwards={"reference": reference}, metadata=Metadata(
        title="Leaky", summary="It sees the future.", formula="o", strengths=("none",),
        weaknesses=("it leaks",), use_when="Never.", tags=("soft",)))
"""


def bakeoff_cli(
    *arguments: str, cwd: Path, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, and look at its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "80", **environment},
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_help_is_quick_and_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from bakeoff.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("list", "show", "run", "merge", "report", "compare", "pick", "doctor"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize(
    "command", ["list", "show", "run", "merge", "report", "compare", "pick", "doctor"]
)
def test_help_of_each_command(tmp_path: Path, command: str) -> None:
    told = bakeoff_cli(command, "--help", cwd=tmp_path).stdout
    assert told.startswith(f"Usage: bakeoff {command}")
    assert max(map(len, told.splitlines())) <= 80


def test_version(tmp_path: Path) -> None:
    assert bakeoff.__version__ in bakeoff_cli("--version", cwd=tmp_path).stdout


def test_list(tmp_path: Path, catalog: bakeoff.Catalog) -> None:
    told = bakeoff_cli("list", cwd=tmp_path).stdout.splitlines()
    assert {line.split()[0] for line in told if line.strip()} >= set(catalog)
    assert max(map(len, told)) <= 80
    listed = json.loads(bakeoff_cli("list", "--json", "--tag", "gated", cwd=tmp_path).stdout)
    assert [entry["name"] for entry in listed] == [v.name for v in catalog.select(tags=["gated"])]
    entry = next(entry for entry in listed if entry["name"] == "swiglu")
    assert entry["forwards"] == list(catalog["swiglu"].forwards)
    assert entry["origin"] == "bakeoff.plugins.activations.swiglu"
    assert entry["section"] is None


def test_list_by_section(tmp_path: Path, catalog: bakeoff.Catalog) -> None:
    told = bakeoff_cli("list", "--kind", "attention", cwd=tmp_path).stdout.splitlines()
    found: dict[str, str] = {}
    headings: list[str] = []
    for line, under in zip(told, [*told[1:], ""], strict=True):
        if under and set(under) == {"-"}:
            headings.append(line.lower())
        elif line.split(" ")[0] in catalog:
            found[line.split(" ")[0]] = headings[-1]
    attention = catalog.select(kind="attention")
    assert found == {v.name: v.metadata.section or "other" for v in attention}
    order = [section for section in (*SECTIONS["attention"], "other") if section in headings]
    assert headings == order
    entries = json.loads(bakeoff_cli("list", "--json", "--kind", "attention", cwd=tmp_path).stdout)
    assert {e["name"]: e["section"] for e in entries} == {
        v.name: v.metadata.section or None for v in attention
    }


def test_list_what_has_no_section(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK)
    told = bakeoff_cli("list", "--plugin", "leak.py", "--kind", "attention", cwd=tmp_path).stdout
    assert "leaky_attention" in told[told.index("Other\n-----\n") :]


def test_show_every_variant(catalog: bakeoff.Catalog) -> None:
    from click.testing import CliRunner

    from bakeoff.cli.show import show

    for variant in catalog.values():
        done = CliRunner().invoke(show, [variant.name])
        assert done.exit_code == 0, done.output
        metadata = variant.metadata
        bibtex = metadata.paper.bibtex if metadata.paper else ""  # shown as it is, to be copied
        assert all(
            len(line) <= 80 or line.strip() in bibtex for line in done.output.splitlines()
        ), variant.name
        flat = " ".join(done.output.split())
        for text in (metadata.title, metadata.summary, *metadata.strengths, *metadata.weaknesses):
            assert " ".join(text.split()) in flat
        for name in variant.forwards:
            # An adapter's formula has no sentence of its own.
            ending = "" if "peer" in metadata.tags else ": "
            assert f"\n  {name}{ending}" in done.output
        if metadata.paper:
            assert metadata.paper.key in done.output


def test_show_by_alias_and_bibtex(tmp_path: Path) -> None:
    assert bakeoff_cli("show", "swish", cwd=tmp_path).stdout.startswith("SiLU (activation silu")
    bibtex = bakeoff_cli("show", "sliding_window", "--bibtex", cwd=tmp_path).stdout
    assert bibtex.startswith("@misc{beltagy2020longformer,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "relo"], "no variant is called 'relo'; did you mean relu?"),
        (["list", "--kind", "atention"], "no kind is called 'atention'; did you mean attention?"),
        (["list", "--tag", "sof"], "did you mean soft?"),
        (["lst"], "No such command 'lst'"),
        (["run", "--preset", "quik"], "no preset is called 'quik'; did you mean quick?"),
        (["run", "--suite", "sped"], "no suite is called 'sped'; did you mean speed?"),
        (["run", "--variant", "relo"], "no variant is called 'relo'; did you mean relu?"),
        (["run", "--forward", "sdpaa"], "a forward called 'sdpaa'; did you mean sdpa?"),
        (["run", "--dtype", "float23"], "dtypes: got 'float23', expected one of float32, bfloat16"),
        (["run", "--pattern", "selv"], "patterns: got 'selv', expected one of self, cross"),
        (["run", "--direction", "up"], "expected one of forward, backward, training"),
        (["run", "--mode", "jit"], "modes: got 'jit', expected one of eager, compiled"),
        (["run", "--inputs", "no.pt"], "inputs: got 'no.pt', expected normal, peaked or the path"),
        (["run", "--device", "cdua"], "devices: got 'cdua', expected a device of torch: Expected"),
        (["run", "--seq-len", "0"], "seq_lens: got 0, expected integers of at least 1"),
        (["run", "--seq-len", "a"], "got 'a', expected integers such as 128 or 128,512"),
        (["run", "--fail-on", "bad"], "--fail-on: got 'bad', expected one of wrong, failed"),
        (["run", "--option", "window"], "--option: got 'window', expected NAME=VALUE,…"),
        (["run", "--option", "windw=3"], "an option called 'windw'; did you mean window?"),
        (["run", "--memory-limit", "much"], "got 'much', expected a size such as 8GiB"),
        (["run", "--timeout", "0"], "'--timeout'"),
        (["report"], "bakeoff-results.sqlite: there is no such results file"),
        (["report", "--format", "pdf"], "'pdf' is not one of 'terminal', 'markdown'"),
        (["report", "--format", "html"], "--format html needs a file: add -o report.html"),
    ],
)
def test_bad_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    from click.testing import CliRunner

    from bakeoff.cli import cli
    from bakeoff.registry.errors import BakeoffError

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, arguments)
    if isinstance(done.exception, BakeoffError):
        told = str(done.exception)  # which the entry point prints, with exit status 2
    else:
        assert done.exit_code == 2
        told = done.output
    assert message in " ".join(told.split())
    assert not list(tmp_path.rglob("*.sqlite")), "a wrong call must leave no file behind"


def test_an_error_of_ours_is_a_message_and_status_2(tmp_path: Path) -> None:
    done = bakeoff_cli("show", "relo", cwd=tmp_path, status=2)
    assert done.stderr == "Error: no variant is called 'relo'; did you mean relu?\n"


def test_explain(tmp_path: Path) -> None:
    arguments = ("run", "--suite", "memory", "--variant", "relu", "--seq-len", "16")
    told = bakeoff_cli(*arguments, "--explain", cwd=tmp_path).stdout
    assert told == (
        "4 of 4 cells would be measured, 0 are stored already.\n\n"
        "4 cells: never measured in this file\n"
        "  memory relu:reference (2)\n  memory relu:torch (2)\n"
    )
    assert not list(tmp_path.iterdir())
    bakeoff_cli(*arguments, cwd=tmp_path)
    told = bakeoff_cli(*arguments, "--explain", cwd=tmp_path).stdout
    assert told == "0 of 4 cells would be measured, 4 are stored already.\n"


def test_shards_and_merge(tmp_path: Path) -> None:
    for i in (1, 2):
        bakeoff_cli(
            "run", "--suite", "accuracy", "--variant", "relu,tanh", "--dtype", "float32",
            "--shard", f"{i}/2", "--results", f"{i}.sqlite", cwd=tmp_path,
        )  # fmt: skip
    told = bakeoff_cli("merge", "1.sqlite", "2.sqlite", "-o", "both.sqlite", cwd=tmp_path).stdout
    assert "cells added to both.sqlite." in told
    assert "measured twice" not in told
    told = bakeoff_cli("merge", "1.sqlite", "2.sqlite", "-o", "both.sqlite", cwd=tmp_path).stdout
    assert "0 cells added to both.sqlite." in told
    assert "were there already, the very same measurements." in told
    done = bakeoff_cli("merge", "3.sqlite", "-o", "both.sqlite", cwd=tmp_path, status=2)
    assert "3.sqlite: there is no such results file" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard", "3"), "--shard: got '3', expected I/N such as 1/4"),
        (("--shard", "3/2"), "shard: got 3/2, expected i/N with i from 1 to N"),
        (("--precision", "much"), "--precision: got 'much', expected a share such as 3%"),
        (("--precision", "300%"), "precision: got 3.0, expected a share such as 0.03 for 3%"),
        (("--baseline", "relu"), "baseline: got 'relu', expected VARIANT:FORWARD"),
        (("--malloc", "fast"), "'fast' is not one of 'system', 'tuned'"),
        (("--cache", "hot"), "'hot' is not one of 'warm', 'cold'"),
    ],
)
def test_wrong_flags_of_run(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = bakeoff_cli("run", "--suite", "speed", *arguments, cwd=tmp_path, status=2)
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("system", "told"),
    [
        ("linux", ["enforced", "enforced", "enforced"]),
        ("darwin", ["enforced", "not enforced on this system", "not enforced if the run is kill"]),
        ("win32", ["enforced", "not enforced on this system", "not enforced if the run is kill"]),
    ],
)
def test_doctor_says_what_is_not_enforced(
    monkeypatch: pytest.MonkeyPatch, system: str, told: list[str]
) -> None:
    from bakeoff.cli import doctor

    monkeypatch.setattr("sys.platform", system)
    limits = [value for _, value in doctor._limits()]
    assert [value[:31] for value in limits] == told


def test_doctor(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    told = bakeoff_cli("doctor", cwd=tmp_path).stdout
    for words in (
        "torch",
        "cpu",
        "No plugin has a problem.",
        *("accuracy, ", "gradient, ", "memory, ", "scaling, ", "speed"),
        "bakeoff.swap and the suite applications",
        f"Known faults of torch {torch.__version__} on this machine",
        "present: causal_at_the_upper_left (cpu)\n",
        "report: https://github.com/pytorch/pytorch/issues/108108\n",
        "bfloat16_product_beyond_its_edge (cpu)\n",
    ):
        assert words in told
    assert "undetermined: " not in told
    # What is present comes first.
    assert told.rindex("\npresent: ") < told.index("\nabsent: ")
    bad = bakeoff_cli("doctor", "--plugin", "broken.py", cwd=tmp_path, status=1).stdout
    assert "broken.py: import failed: ModuleNotFoundError: No module named 'no_such_module'" in bad


def test_a_broken_plugin_is_told_and_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def bakeoff_variant(): yield\n")
    done = bakeoff_cli("list", "--plugin", "broken.py", "--kind", "connection", cwd=tmp_path)
    assert "1 problem with plugins, which were left out:\n- broken.py: " in done.stderr
    assert "residual" in done.stdout


def test_a_new_variant_from_its_file_to_the_report(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK)
    chosen = ("--plugin", "leak.py", "--variant", "leaky_attention,scaled_dot_product")
    small = ("--seq-len", "32", "--suite", "accuracy,speed", "--dtype", "float32")
    run = ("run", *chosen, *small, "--budget", "0.2")
    listed = bakeoff_cli("list", "--plugin", "leak.py", cwd=tmp_path).stdout
    assert "leaky_attention" in listed
    done = bakeoff_cli(*run, "--fail-on", "wrong", cwd=tmp_path, status=1)
    assert "Failing because of --fail-on: " in done.stderr
    told = bakeoff_cli("report", cwd=tmp_path).stdout
    flat = " ".join(told.split())
    assert "Wrong, and not ranked: leaky_attention:reference: arguments_matter, no_future" in flat
    assert "Not ranked, wrong: leaky_attention:reference." in told
    failures = told[told.index("Failures (") :]
    assert "leaky_attention:reference wrong: accuracy no_future_leak" in failures
    # Wrong rows make a complete run all the same, and nothing is measured twice.
    again = bakeoff_cli(*run, cwd=tmp_path)
    assert again.stdout.startswith("0 cells measured")
    # Repaired, the same variant is measured again and ranked.
    repaired = LEAK.replace("import Attention,", "import Attention, allowed_keys,")
    repaired = repaired.replace("(scores, mask)", "(scores, allowed_keys(q, k, mask, causal))")
    (tmp_path / "leak.py").write_text(repaired)
    bakeoff_cli(*run, "--fail-on", "wrong,failed", cwd=tmp_path)
    assert "wrong" not in bakeoff_cli("report", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.md", "# bakeoff report"),
        ("r.txt", "bakeoff report\n====="),
        ("r.html", "<!doctype html>"),
        ("r.csv", "measured_at,environment,control,suite"),
        ("r.json", '[\n {\n  "measured_at"'),
        ("r.parquet", "PAR1"),
    ],
)
def test_report_formats(tmp_path: Path, name: str, begins: str) -> None:
    from click.testing import CliRunner

    from bakeoff.cli.report import report

    write_results(tmp_path / "r.sqlite", activations=2)
    output = tmp_path / name
    done = CliRunner().invoke(
        report, ["--results", str(tmp_path / "r.sqlite"), "-o", str(output), "--kind", "connection"]
    )
    assert done.exit_code == 0, done.output
    assert f"Wrote {output}." in done.output
    assert output.read_bytes()[:60].decode(errors="replace").startswith(begins)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    write_results(tmp_path / "bakeoff-results.sqlite", activations=2)
    done = bakeoff_cli("report", "-o", "no/such/folder/r.md", cwd=tmp_path, status=2)
    assert done.stderr.startswith("Error: -o no/such/folder/r.md: No such file or directory")


def test_interrupt_loses_nothing(tmp_path: Path) -> None:
    import signal

    command = [
        sys.executable,
        "-m",
        "bakeoff",
        "run",
        "--suite",
        "accuracy",
        "--kind",
        "activation",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    file = tmp_path / "bakeoff-results.sqlite"
    for _ in range(600):
        time.sleep(0.1)
        if file.exists() and file.stat().st_size and _stored(file):
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    before = _stored(file)
    assert process.returncode == 130
    assert "Stopped. Everything measured so far is in bakeoff-results.sqlite" in told
    assert before > 0
    done = bakeoff_cli(*command[3:], cwd=tmp_path)
    assert f"{before} cells were stored already." in done.stdout


def _stored(file: Path) -> int:
    """How many cells the results hold, however far the run has come."""
    import sqlite3

    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM cells").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        if "db" in locals():
            db.close()
