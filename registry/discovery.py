"""Finds plugins, calls their hooks one by one, and makes a catalog of what holds."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from bakeoff.registry import hookspecs
from bakeoff.registry.catalog import Catalog, Contribution, Problem
from bakeoff.registry.errors import did_you_mean
from bakeoff.registry.validation import faults_of

__all__ = ["discover"]

#: Packages that are walked for plugin modules. They load as anyone's plugins do.
BUILT_IN = ("bakeoff.plugins", "bakeoff.suites.builtin")
ENTRY_POINT_GROUP = "bakeoff"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("bakeoff_"))


@dataclass(frozen=True)
class _Candidate:
    """A plugin that was named somewhere, and how to import it."""

    origin: str
    importer: Callable[[], Any]


def discover(
    plugins: Iterable[str | Path] = (), *, entry_points: bool = True, pyproject: bool = True
) -> Catalog:
    """Load every plugin and return what they bring.

    Plugins come, in this order, from the built-in packages, the entry-point group ``bakeoff``,
    ``[tool.bakeoff] plugins`` of the nearest pyproject.toml, and ``plugins``. One that fails
    costs only itself: the catalog's ``problems`` say what was wrong with it.

    Args:
        plugins: Paths of Python files.
        entry_points: Whether to look at installed packages.
        pyproject: Whether to look at the nearest pyproject.toml, from the working directory up.
    """
    loading = _Loading()
    for package in BUILT_IN:
        loading.add_all(_walk(package, loading))
    if entry_points:
        loading.add_all(_installed())
    named = [*_configured(loading)] if pyproject else []
    files = dict.fromkeys(Path(path).resolve() for path in (*named, *plugins))
    loading.add_all(_Candidate(_display(path), _file_importer(path)) for path in files)
    return loading.catalog(tuple(str(path) for path in files))


class _Loading:
    """One pass over the plugins: a pluggy manager, and the problems met on the way."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("bakeoff")
        self.manager.add_hookspecs(hookspecs)
        self.problems: list[Problem] = []

    def problem(self, origin: str, reason: str, error: BaseException | None = None) -> None:
        trace = "".join(traceback.format_exception(error)) if error else ""
        self.problems.append(Problem(origin, reason, trace))

    def add_all(self, candidates: Iterable[_Candidate]) -> None:
        for candidate in candidates:
            try:
                plugin = candidate.importer()
            except (Exception, SystemExit) as error:
                self.problem(candidate.origin, f"import failed: {_brief(error)}", error)
                continue
            self.register(plugin, candidate.origin)

    def register(self, plugin: Any, origin: str) -> None:
        marked = [n for n in dir(plugin) if self.manager.parse_hookimpl_opts(plugin, n)]
        if not marked:
            known = ", ".join(HOOKS)
            self.problem(
                origin,
                f"hooks: got no function marked @hookimpl, expected at least one of {known}",
            )
            return
        # pluggy would drop a misspelt hook silently, and check_pending names one at a time.
        misspelt = [name for name in marked if name not in HOOKS]
        for name in misspelt:
            self.problem(origin, f"hook {name!r} is not known; {did_you_mean(name, HOOKS)}")
        if misspelt:
            return
        try:
            self.manager.register(plugin, name=origin)
        except (pluggy.PluginValidationError, ValueError) as error:
            if self.manager.has_plugin(origin):
                self.manager.unregister(name=origin)
            self.problem(origin, f"hooks: {_brief(error)}", error)

    def collect(self, hook: str) -> Iterator[Contribution]:
        """Each value that any plugin returns from ``hook``; a plugin that raises gives none."""
        implementations = getattr(self.manager.hook, hook).get_hookimpls()
        for implementation in implementations:  # already in order of registration
            origin = implementation.plugin_name
            try:
                values = list(implementation.function())
            except (Exception, SystemExit) as error:
                self.problem(origin, f"hook {hook!r} failed: {_brief(error)}", error)
                continue
            yield from (Contribution(origin, value) for value in values)

    def catalog(self, sources: tuple[str, ...]) -> Catalog:
        catalog = Catalog({}, sources=sources)
        for found in self.collect("bakeoff_variants"):
            variant, origin = found.value, found.origin
            faults = faults_of(variant)
            name = getattr(variant, "name", None)
            for fault in faults:
                where = f"variant {name!r}: " if isinstance(name, str) else "bakeoff_variants: "
                self.problem(origin, f"{where}{fault}")
            clashes = [] if faults else catalog.clashes(variant, origin)
            for clash in clashes:
                self.problem(origin, clash)
            if not faults and not clashes:
                catalog = catalog.plus(variant, origin)
        catalog = self._without_dangling(catalog)
        others = {
            hook: tuple(self.collect(hook))
            for hook in HOOKS
            if hook not in ("bakeoff_variants", "bakeoff_record")
        }
        others["bakeoff_record"] = tuple(
            Contribution(impl.plugin_name, impl.function)
            for impl in self.manager.hook.bakeoff_record.get_hookimpls()
        )
        return Catalog(catalog.variants, catalog.origins, tuple(self.problems), others, sources)

    def _without_dangling(self, catalog: Catalog) -> Catalog:
        """Leave out variants that refer to unknown ones, until none does."""
        while dangling := {v.name: r for v in catalog.values() if (r := catalog.dangling(v))}:
            for name, reasons in dangling.items():
                for reason in reasons:
                    self.problem(catalog.origins[name], f"variant {reason}")
            kept = {n: v for n, v in catalog.variants.items() if n not in dangling}
            catalog = Catalog(kept, catalog.origins, sources=catalog.sources)
        return catalog


def _walk(package: str, loading: _Loading) -> Iterator[_Candidate]:
    """The modules of a package and of its sub-packages; those that begin with _ are private."""
    try:
        root = importlib.import_module(package)
    except Exception as error:
        loading.problem(package, f"import failed: {_brief(error)}", error)
        return
    for info in sorted(
        pkgutil.walk_packages(root.__path__, f"{package}."), key=lambda info: info.name
    ):
        if not info.ispkg and not info.name.rpartition(".")[2].startswith("_"):
            yield _Candidate(info.name, _module_importer(info.name))


def _module_importer(name: str) -> Callable[[], Any]:
    return lambda: importlib.import_module(name)


def _installed() -> Iterator[_Candidate]:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    for entry in sorted(found, key=lambda e: (e.dist.name if e.dist else "", e.name)):
        package = entry.dist.name if entry.dist else "an unknown package"
        yield _Candidate(f"entry point {entry.name!r} of {package}", entry.load)


def _configured(loading: _Loading) -> Iterator[Path]:
    """The plugin files that the nearest pyproject.toml names, relative to it."""
    here = Path.cwd()
    path = next((p for d in (here, *here.parents) if (p := d / "pyproject.toml").is_file()), None)
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        loading.problem(str(path), f"cannot be read: {_brief(error)}", error)
        return
    plugins = table.get("tool", {}).get("bakeoff", {}).get("plugins", [])
    if not isinstance(plugins, list) or not all(isinstance(p, str) for p in plugins):
        loading.problem(
            str(path), f"[tool.bakeoff] plugins: got {plugins!r}, expected a list of paths"
        )
        return
    yield from (path.parent / plugin for plugin in plugins)


def _file_importer(path: Path) -> Callable[[], Any]:
    def importer() -> Any:
        if not path.is_file():
            raise FileNotFoundError(f"got {path}, expected the path of a Python file")
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
        name = f"bakeoff_plugin_{path.stem}_{digest}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"got {path}, expected a Python file that ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # so that inspect and pickle find it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return importer


def _display(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _brief(error: BaseException) -> str:
    text = str(error) or "no message"
    return f"{type(error).__name__}: {text}"
