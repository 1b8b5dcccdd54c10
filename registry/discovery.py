"""Calls the hooks of every plugin, one by one, and makes a catalog of what holds."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pluggy

from bakeoff.registry import hookspecs
from bakeoff.registry.catalog import Catalog, Contribution
from bakeoff.registry.errors import UsageError, did_you_mean, shown, typed
from bakeoff.registry.global_state import GlobalState
from bakeoff.registry.problems import Fault, ProblemLog
from bakeoff.registry.sources import Candidate, configured, from_file, installed, walked
from bakeoff.registry.validation import faults_of
from bakeoff.registry.variants import Variant

__all__ = ["BUILT_IN", "discover"]

#: Packages that are walked for plugin modules. They load as anyone's plugins do.
BUILT_IN = ("bakeoff.plugins", "bakeoff.suites.builtin", "bakeoff.suites.claims.textbook")
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("bakeoff_"))


def discover(
    plugins: Iterable[str | Path] = (),
    *,
    entry_points: bool = True,
    pyproject: bool = True,
    skip: Collection[str] = (),
) -> Catalog:
    """Load every plugin and return what they bring.

    Plugins come, in this order, from the built-in packages, the entry-point group ``bakeoff``,
    ``[tool.bakeoff] plugins`` of the nearest pyproject.toml, and ``plugins``. One that fails
    costs only itself: the catalog's ``problems`` say what was wrong with it.

    Args:
        plugins: Paths of Python files. A file that is named twice is loaded once.
        entry_points: Whether to look at installed packages.
        pyproject: Whether to look at the nearest pyproject.toml, from the working directory up.
        skip: Origins of plugins that are not to be imported.

    Raises:
        UsageError: Where ``plugins`` is not a list of paths.
    """
    given = _paths(plugins)
    log = ProblemLog()
    loading = _Loading(log, skip)
    for package in BUILT_IN:
        loading.add_all(walked(package, log))
    if entry_points:
        loading.add_all(installed(log))
    files: dict[Path, None] = {}
    for path in (*(configured(log) if pyproject else ()), *given):
        with log.guard(str(path), "cannot be found"):
            files[path.resolve()] = None
    loading.add_all(from_file(path) for path in files)
    return loading.catalog(tuple(str(path) for path in files))


def _paths(plugins: object) -> list[Path]:
    # A lone path is iterable too: letter by letter.
    if isinstance(plugins, (str, bytes, os.PathLike)) or not isinstance(plugins, Iterable):
        raise UsageError(f"plugins: got {shown(plugins)}, expected a list of paths")
    paths = list(plugins)
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"plugins: got {shown(path)} in it, expected paths of Python files")
    return [Path(path) for path in paths]


class _Loading:
    """One pass over the plugins."""

    def __init__(self, log: ProblemLog, skip: Collection[str]) -> None:
        self.log, self.skip = log, skip
        self.unclean: dict[str, str] = {}
        self.manager = pluggy.PluginManager("bakeoff")
        self.manager.add_hookspecs(hookspecs)

    def add_all(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            if candidate.origin in self.skip:
                continue
            with self._clean(candidate.origin), self.log.guard(candidate.origin, "import failed"):
                self._register(candidate.importer(), candidate.origin)

    @contextmanager
    def _clean(self, origin: str) -> Iterator[None]:
        """Notice what a plugin changes that belongs to the whole process, and set it back."""
        before = GlobalState.now()
        yield
        if changes := before.changes():
            before.restore()
            self.unclean[origin] = (
                f"{origin} changes what belongs to the whole process while it is loaded: "
                f"{'; '.join(changes)}. Move that out of the plugin, or into the forward's own "
                "arguments"
            )

    def _register(self, plugin: Any, origin: str) -> None:
        if self.manager.is_registered(plugin):
            return  # two entry points may name one module
        faults = list(_hook_faults(plugin, self.manager))
        for fault in faults:
            self.log.add(origin, fault)
        if not faults:
            self.manager.register(plugin, name=origin)

    def _collect(self, hook: str) -> Iterator[Contribution]:
        """Each value that any plugin returns from ``hook``; a plugin that raises gives none."""
        implementations = getattr(self.manager.hook, hook).get_hookimpls()
        for implementation in implementations:  # already in order of registration
            origin, values = implementation.plugin_name, []
            with self._clean(origin), self.log.guard(origin, f"hook {hook!r} failed"):
                returned = implementation.function()
                if isinstance(returned, Iterable) and not isinstance(returned, (str, Mapping)):
                    values = list(returned)
                else:
                    expected = "an iterable: yield each, or return a list"
                    self.log.add(origin, Fault(f"hook {hook!r}", typed(returned), expected))
            yield from (Contribution(origin, value) for value in values)

    def catalog(self, sources: tuple[str, ...]) -> Catalog:
        """What the plugins bring, without what breaks the contract."""
        catalog = Catalog({})
        for found in self._collect("bakeoff_variants"):
            if self._holds(found.value, found.origin, catalog):
                catalog = catalog.plus(found.value, found.origin)
        catalog = self._without_dangling(catalog)
        others = {
            hook: tuple(self._collect(hook))
            for hook in HOOKS
            if hook not in ("bakeoff_variants", "bakeoff_record")
        }
        others["bakeoff_record"] = tuple(
            Contribution(impl.plugin_name, impl.function)
            for impl in self.manager.hook.bakeoff_record.get_hookimpls()
        )
        problems = tuple(self.log.problems)
        unclean = {n: self.unclean[o] for n, o in catalog.origins.items() if o in self.unclean}
        return Catalog(catalog.variants, catalog.origins, problems, others, sources, (), unclean)

    def _holds(self, variant: object, origin: str, catalog: Catalog) -> bool:
        known = len(self.log.problems)
        where = "bakeoff_variants"
        if isinstance(variant, Variant):
            where = f"variant {shown(variant.name)}"
        with self.log.guard(origin, f"{where}: could not be judged"):
            for fault in (faults := faults_of(variant)):
                self.log.add(origin, f"{where}: {fault}", fault.error)
            if isinstance(variant, Variant) and not faults:
                for clash in catalog.clashes(variant, origin):
                    self.log.add(origin, clash)
        return len(self.log.problems) == known

    def _without_dangling(self, catalog: Catalog) -> Catalog:
        """Leave out variants that refer to unknown ones, until none does."""
        while dangling := {v.name: r for v in catalog.values() if (r := catalog.dangling(v))}:
            for name, reasons in dangling.items():
                for reason in reasons:
                    self.log.add(catalog.origins[name], f"variant {reason}")
            kept = {name: v for name, v in catalog.variants.items() if name not in dangling}
            catalog = Catalog(kept, {name: catalog.origins[name] for name in kept})
        return catalog


def _hook_faults(plugin: Any, manager: pluggy.PluginManager) -> Iterator[Fault]:
    """What is wrong with the hooks of a plugin.

    pluggy drops a misspelt hook silently, and its ``check_pending`` names only one at a time.
    """
    found = False
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        function = getattr(plugin, name, None)
        if options is None and not (name in HOOKS and inspect.isroutine(function)):
            continue
        found = True
        hook = (options and options.get("specname")) or name
        if options is None:
            yield Fault(f"hook {hook!r}", "a function without a mark", "@hookimpl above it")
        elif hook not in HOOKS:
            yield Fault("hook", repr(hook), f"a known hook; {did_you_mean(hook, HOOKS)}")
        elif options.get("wrapper") or options.get("hookwrapper"):
            yield Fault(f"hook {hook!r}", "a wrapper", "a plain hook: each is called alone")
        else:
            yield from _argument_faults(hook, function)
    if not found:
        known = ", ".join(HOOKS)
        yield Fault("hooks", "no function marked @hookimpl", f"at least one of {known}")


def _argument_faults(hook: str, function: Any) -> Iterator[Fault]:
    """A hook may leave out arguments of its specification, and require no others."""
    got, expected = inspect.signature(function), inspect.signature(getattr(hookspecs, hook))
    try:
        got.bind(**{name: None for name in expected.parameters if name in got.parameters})
    except TypeError as error:
        wanted = f"{hook}({', '.join(expected.parameters)})"
        yield Fault(f"hook {hook!r}", f"{hook}{got}: {error}", wanted)
