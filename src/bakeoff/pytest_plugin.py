"""The pytest plugin: the checks of a variant as tests, and its speed through pytest-benchmark.

Without ``--bakeoff-variant`` or the setting ``bakeoff_variants`` it collects nothing, and it
imports nothing heavy unless one of its fixtures is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog
    from bakeoff.reports.certificate import Certificate

__all__ = ["bakeoff_catalog", "bakeoff_certificate", "wanted"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the settings."""
    group = parser.getgroup("bakeoff")
    group.addoption(
        "--bakeoff-variant",
        action="append",
        default=[],
        metavar="NAME|FILE.py",
        help="check this variant, or those of a plugin file: one test for each check",
    )
    group.addoption(
        "--bakeoff-speed",
        action="store_true",
        help="time these variants, and the baseline, with pytest-benchmark",
    )
    parser.addini("bakeoff_variants", "as --bakeoff-variant, for every run", type="args")


def wanted(config: pytest.Config) -> list[str]:
    """The names and files that the command line and the settings name."""
    return [*config.getini("bakeoff_variants"), *config.getoption("bakeoff_variant")]


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add one test for each check of the variants that are named."""
    if wanted(config):
        from bakeoff.testing import tests_of

        made = list(tests_of(session))
        items.extend(made)
        # So that what is counted as collected holds them too.
        report = pytest.CollectReport("bakeoff", "passed", None, [*made])
        config.hook.pytest_collectreport(report=report)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Say which machine and which torch it was, as records do."""
    if wanted(config):
        from bakeoff.suites.environment import environment

        machine_info["bakeoff"] = environment()


@pytest.fixture(scope="session")
def bakeoff_catalog(pytestconfig: pytest.Config) -> Catalog:
    """Every variant that is registered, with those of the files that are named."""
    from bakeoff.testing import catalog_of

    return catalog_of(pytestconfig)


@pytest.fixture(scope="session")
def bakeoff_certificate(pytestconfig: pytest.Config) -> Callable[[str], Certificate]:
    """A function from the name of a variant to its certificate, measured once a session."""
    from bakeoff.testing import certificate_of

    return lambda name: certificate_of(pytestconfig, name)
