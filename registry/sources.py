"""Where plugins come from: packages that are walked, entry points, pyproject.toml and files."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from bakeoff.registry.errors import brief, did_you_mean, shown
from bakeoff.registry.problems import ProblemLog

__all__ = ["Candidate", "configured", "from_file", "installed", "walked"]

ENTRY_POINT_GROUP = "bakeoff"


@dataclass(frozen=True)
class Candidate:
    """A plugin that was named somewhere, and how to import it."""

    origin: str
    importer: Callable[[], Any]


def walked(package: str, log: ProblemLog) -> Iterator[Candidate]:
    """The modules of a package and of its sub-packages; those that begin with _ are private."""

    def broken(name: str) -> None:
        error = sys.exception()
        assert error is not None
        log.add(name, f"import failed: {brief(error)}", error)

    names: list[str] = []
    with log.guard(package, "import failed"):
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=broken):
            if not info.ispkg and not info.name.rpartition(".")[2].startswith("_"):
                names.append(info.name)
    for name in sorted(names):
        yield Candidate(name, functools.partial(importlib.import_module, name))


def installed(log: ProblemLog) -> Iterator[Candidate]:
    """What installed packages name in the entry-point group ``bakeoff``, by package and name."""
    found: list[tuple[str, str, importlib.metadata.EntryPoint]] = []
    with log.guard("entry points", "cannot be read"):
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            package = (entry.dist.name if entry.dist else None) or "an unnamed package"
            found.append((package, entry.name, entry))
    for package, name, entry in sorted(found, key=lambda each: each[:2]):
        yield Candidate(f"entry point {name!r} of {package}", entry.load)


def configured(log: ProblemLog) -> list[Path]:
    """The plugin files that the nearest pyproject.toml names, relative to it."""
    here = Path.cwd()
    file = next((p for d in (here, *here.parents) if (p := d / "pyproject.toml").is_file()), None)
    if file is None:
        return []
    table: Any = {}
    with log.guard(str(file), "cannot be read"):
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    for section in ("tool", "bakeoff"):
        table = table.get(section, {})
        if not isinstance(table, dict):
            log.add(str(file), f"{section}: got {shown(table)}, expected a table")
            return []
    for key in sorted(table.keys() - {"plugins"}):
        hint = did_you_mean(key, ["plugins"])
        log.add(str(file), f"[tool.bakeoff]: got {key!r}, expected a known key; {hint}")
    plugins = table.get("plugins", [])
    if not isinstance(plugins, list) or not all(isinstance(p, str) for p in plugins):
        log.add(
            str(file), f"[tool.bakeoff] plugins: got {shown(plugins)}, expected a list of paths"
        )
        return []
    return [file.parent / plugin for plugin in plugins]


def from_file(path: Path) -> Candidate:
    """The plugin in a Python file, shown relative to the working directory where it is below."""
    here = Path.cwd()
    origin = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return Candidate(origin, functools.partial(_import_file, path))


class _FreshLoader(SourceFileLoader):
    """Compiles the file each time.

    A cached compilation is taken for current when size and second agree, so it would hide a quick
    edit; nor should a ``__pycache__`` appear beside the user's file.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"got {path}, expected the path of a Python file")
    if path.suffix != ".py":
        raise ImportError(f"got {path}, expected a Python file that ends in .py")
    # Two files of one name in two folders are two plugins.
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:8]
    stem = re.sub(r"\W", "_", path.stem)
    name = f"bakeoff_plugin_{stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_FreshLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that inspect and pickle find it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
