"""The pytest plugin, in the pytest of an author."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_check import write

PLUGINS = ("-p", "bakeoff.pytest_plugin")


def run(folder: Path, *arguments: str, status: int = 0, plugins: tuple[str, ...] = PLUGINS) -> str:
    """What pytest prints; nothing that is installed here takes part."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_disturbs_nobody(tmp_path: Path) -> None:
    """Without its options: the same tests, and neither torch nor pandas is imported."""
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\n\ndef test_mine():\n"
        "    assert not {'torch', 'pandas', 'numpy', 'bakeoff.checking'} & sys.modules.keys()\n"
    )
    told = run(tmp_path, "-v")
    assert "bakeoff" not in told.replace("test_it_disturbs_nobody", "").split("collected")[1]
    assert "1 passed" in told
    assert run(tmp_path, "-q", plugins=()).splitlines()[0] == run(tmp_path, "-q").splitlines()[0]


def test_one_test_a_check(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square() * (1.05 if x.dtype == torch.bfloat16 else 1)")
    told = run(tmp_path, "--bakeoff-variant", "planted.py", "-v", "-rs", status=1)
    assert "bakeoff::planted:fast::no_future_leak" not in told
    assert "bakeoff::planted:fast::deterministic PASSED" in told
    assert "bakeoff::planted:reference::verdict PASSED" in told
    assert "bakeoff::planted:fast::verdict FAILED" in told
    assert "planted:fast: error_ratio wrong\n  got: the output has an RMS error of" in told
    assert "at: N = 96; bfloat16; forward" in told
    assert "look at: " in told
    assert "Traceback" not in told


def test_a_setting_and_a_choice(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square()")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nbakeoff_variants = ["planted.py"]\n'
    )
    told = run(tmp_path, "--collect-only", "-q", "-k", "fast and extreme")
    assert told.splitlines()[0] == "bakeoff::planted:fast::extreme"
    assert "1/" in told


def test_fixtures(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square()")
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(bakeoff_catalog, bakeoff_certificate):\n"
        "    assert bakeoff_catalog['planted'].kind == 'activation'\n"
        "    certificate = bakeoff_certificate('planted')\n"
        "    assert certificate is bakeoff_certificate('planted')\n"
        "    assert certificate.verdict == 'right'\n"
    )
    assert "1 passed" in run(tmp_path, "--bakeoff-variant", "planted.py", "-k", "test_mine")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("relo", "bakeoff: no variant is called 'relo'; did you mean relu?"),
        ("missing.py", "missing.py', expected a file that there is, or the name of a variant"),
        ("planted.py", "name: got 'Not Snake' (str), expected lower_snake_case"),
    ],
)
def test_usage(tmp_path: Path, target: str, message: str) -> None:
    write(tmp_path, "x", name="Not Snake")
    assert message in run(tmp_path, "--bakeoff-variant", target, status=4)


def test_speed_needs_its_extra(tmp_path: Path) -> None:
    write(tmp_path, "F.relu(x).square()")
    told = run(tmp_path, "--bakeoff-variant", "planted.py", "--bakeoff-speed", status=4)
    assert "python -m pip install 'bakeoff[bench]'" in told


def test_speed_and_its_json(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    write(tmp_path, "F.relu(x).square()")
    (tmp_path / "test_other.py").write_text("def test_other(benchmark):\n    benchmark(sum, [1])\n")
    plugins = (*PLUGINS, "-p", "pytest_benchmark.plugin")
    given = ("--bakeoff-variant", "planted.py", "--bakeoff-speed", "-k", "speed or other")
    timed = ("--benchmark-max-time", "0.02", "--benchmark-json", "times.json")
    told = run(tmp_path, *given, *timed, plugins=plugins)
    assert "speed[planted:fast-128-forward]" in told
    assert "speed[relu:torch-512-training]" in told
    data = json.loads((tmp_path / "times.json").read_text())
    assert data["machine_info"]["bakeoff"]["torch"]
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff", "report", "times.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "Left out: 1 benchmarks that are not of variants.\n"
    assert "12 records from times.json." in done.stdout
    assert "harness pytest-benchmark" in " ".join(done.stdout.split())
    assert "planted:fast" in done.stdout
    assert "±" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON of pytest-benchmark"),
        ("[]", "it has no list of benchmarks"),
        ('{"benchmarks": []}', "it holds no benchmark of a variant"),
        (
            '{"benchmarks": [{"fullname": "x", "extra_info": {"bakeoff": {}}}]}',
            "x: its extra_info is of another version",
        ),
    ],
)
def test_a_file_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    from bakeoff.registry.errors import UsageError
    from bakeoff.suites.benchmarks import results_of

    (tmp_path / "times.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        results_of(tmp_path / "times.json", tmp_path / "made")
    assert message in str(caught.value)
