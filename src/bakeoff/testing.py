"""The tests that the pytest plugin makes of variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bakeoff.checking import check, checks_of, named, problems_of
from bakeoff.pytest_plugin import wanted
from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import discover
from bakeoff.registry.errors import BakeoffError
from bakeoff.reports.certificate import Certificate, ForwardCertificate
from bakeoff.suites.benchmarks import FAULT, HARNESS, KEY
from bakeoff.suites.builtin.speed import NAME, VERSION
from bakeoff.suites.product import expand
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.rivals import BASELINES, prepared
from bakeoff.suites.selection import selection_for
from bakeoff.suites.timed_outputs import TimedOutputs

__all__ = ["catalog_of", "certificate_of", "tests_of"]

#: The test of whatever else came out of the checks of a forward.
VERDICT = "verdict"


@dataclass
class _State:
    """What is measured in a session, once."""

    catalog: Catalog
    certificates: dict[str, Certificate] = field(default_factory=dict)


_STATE = pytest.StashKey[_State]()


class CheckFailed(Exception):  # noqa: N818 - the outcome of a test, and its text
    """A check does not hold; the message says what was got, and where to look."""


def catalog_of(config: pytest.Config) -> Catalog:
    """Every variant, with those of the files that are named."""
    return _state(config).catalog


def certificate_of(config: pytest.Config, name: str) -> Certificate:
    """The certificate of a variant, measured when it is first asked for."""
    state = _state(config)
    name = state.catalog[name].name
    if name not in state.certificates:
        state.certificates[name] = check(name, catalog=state.catalog)
    return state.certificates[name]


def tests_of(session: pytest.Session) -> Iterator[pytest.Item]:
    """One test for each check of each forward of the variants that are named.

    Raises:
        pytest.UsageError: For a name that is not known, and a file that can't be used.
    """
    config = session.config
    try:
        catalog = catalog_of(config)
        names: list[str] = []
        for target in (_path(config, target) for target in wanted(config)):
            names += named(catalog, target)
            if broken := problems_of(catalog, target):
                raise BakeoffError("; ".join(map(str, broken)))
        for name in dict.fromkeys(names):
            yield from _checks(session, catalog, name)
            if config.getoption("bakeoff_speed"):
                yield from _races(session, catalog, name)
    except BakeoffError as error:
        raise pytest.UsageError(f"bakeoff: {error}") from error


def _state(config: pytest.Config) -> _State:
    if _STATE not in config.stash:
        files = [_path(config, target) for target in wanted(config) if target.endswith(".py")]
        config.stash[_STATE] = _State(discover(files))
    return config.stash[_STATE]


def _path(config: pytest.Config, target: str) -> str:
    """A file of the settings is relative to the root, one of the command line to the folder."""
    if not target.endswith(".py"):
        return target
    given = target in config.getoption("bakeoff_variant")
    return str((config.invocation_params.dir if given else config.rootpath) / target)


class Subject(pytest.Collector):
    """One forward: the parent of its tests."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Nothing: its tests are made with it."""
        return []

    @classmethod
    def of(cls, session: pytest.Session, label: str) -> Subject:
        """That of ``variant:forward``; its tests are called ``bakeoff::variant:forward::check``."""
        made = cls.from_parent(session, name=label, nodeid=f"bakeoff::{label}")
        assert isinstance(made, cls)
        return made


class CheckItem(pytest.Item):
    """One check of one forward."""

    def __init__(self, *, variant: str, forward: str, **more: Any) -> None:
        super().__init__(**more)
        self.variant, self.forward = variant, forward

    def runtest(self) -> None:
        """Look it up in the certificate."""
        certificate = certificate_of(self.config, self.variant)
        found = next(f for f in certificate.forwards if f.name == self.forward)
        if self.name == VERDICT:
            _require_right(found)
            return
        of_it = next((c for c in found.checks if c.name == self.name), None)
        if of_it is None:
            if found.verdict in ("wrong", "failed"):
                raise CheckFailed(f"it could not be made: {found.reason}")
            pytest.skip("it is not asked of this forward")
        if of_it.status == "unsupported":
            pytest.skip(of_it.got)
        if not of_it.passed:
            told = {"got": of_it.got, "expected": of_it.expected, "at": of_it.at,
                    "look at": of_it.look,
                    "torch is at fault": of_it.cause.summary if of_it.cause else ""}  # fmt: skip
            lines = [f"{self.variant}:{self.forward}: {of_it.name} {of_it.status}"]
            raise CheckFailed("\n".join([*lines, *(f"  {n}: {t}" for n, t in told.items() if t)]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The text alone: a traceback through the plugin says nothing."""
        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """What a report calls it."""
        return self.path, None, f"{self.variant}:{self.forward} {self.name}"


def _require_right(found: ForwardCertificate) -> None:
    if found.verdict in ("wrong", "failed"):
        raise CheckFailed(f"{found.name} is {found.verdict}: {found.reason}")
    if found.verdict == "not measured":
        pytest.skip(f"it runs nothing of this here: {found.reason}")


def _checks(session: pytest.Session, catalog: Catalog, name: str) -> Iterator[pytest.Item]:
    for forward, checks in checks_of(catalog, name).items():
        parent = Subject.of(session, f"{name}:{forward}")
        for of_it in (*checks, VERDICT):
            yield CheckItem.from_parent(parent, name=of_it, variant=name, forward=forward)


def _races(session: pytest.Session, catalog: Catalog, name: str) -> Iterator[pytest.Item]:
    """Times of every forward, and of the baseline on the same cases."""
    plugins = session.config.pluginmanager
    if not any(plugins.hasplugin(name) for name in ("benchmark", "pytest_benchmark.plugin")):
        raise pytest.UsageError(
            "--bakeoff-speed needs pytest-benchmark: python -m pip install 'bakeoff[bench]'"
        )
    label = BASELINES[catalog[name].kind]
    baseline, _, forward = label.partition(":")
    for cell in (*_cells(catalog, name), *_cells(catalog, baseline, forward)):
        parent = Subject.of(session, cell.label)
        case = cell.case
        grid = "grid" if getattr(case.shape, "grid", None) else ""
        parts = (case.pattern, case.seq_len, case.direction, grid)
        told = "-".join(str(part) for part in parts if part)
        yield pytest.Function.from_parent(
            parent, name=f"speed[{cell.label}-{told}]", callobj=_timing(catalog, cell, told)
        )


def _cells(catalog: Catalog, name: str, forward: str = "") -> list[Cell]:
    given = {"variants": (name,), "forwards": (forward,) if forward else ()}
    return list(expand(NAME, VERSION, catalog, selection_for("quick", NAME, given)))


def _timing(catalog: Catalog, cell: Cell, group: str) -> Callable[[Any], None]:
    def timed(benchmark: Any) -> None:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(cell.case.threads)
        try:
            call = prepared(catalog, cell)
            if isinstance(call, Record):
                told = f"{call.status}: {call.reason}"
                (pytest.skip if call.status == Status.UNSUPPORTED else pytest.fail)(told)
            benchmark.group = f"{cell.case.kind} {group}"
            benchmark.extra_info[KEY] = replace(cell, extra=HARNESS).to_json()
            outputs = TimedOutputs({cell.label: call}, announce=lambda name: None)
            outputs.renew(cell.label)
            outputs.look(cell.label, benchmark(call.timed(1)))
            outputs.finish()
            if fault := outputs.fault(cell.label):
                benchmark.extra_info[FAULT] = fault
                pytest.fail(f"wrong: {fault}", pytrace=False)
        finally:
            torch.set_num_threads(before)

    return timed
