"""The identity of a cell: two cells with the same key need be measured only once."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.variants import Variant
from bakeoff.suites.claims.claim import CLAIM, Claim, claims_of
from bakeoff.suites.environment import digest_of, environment
from bakeoff.suites.records import Cell

__all__ = ["Identified", "claim_digest", "identified", "source_digest"]


#: What variants build on, and what claims do; for the rest of a suite its version stands.
NEAR = ("bakeoff.registry.", "bakeoff.suites.claims.", "bakeoff.suites.flow.")


@dataclass(frozen=True)
class Identified:
    """What tells a cell from every other, beside its axes.

    Args:
        key: A digest of the axes and of everything below.
        sources: The :func:`source_digest` of its variant.
        inputs: A digest of the file from which its inputs come; empty where they are drawn.
        environment: The machine and the software.
        control: Whether it is shown and never ranked: a variant that declares so, or what is no
            variant and stands under a name in brackets.
    """

    key: str
    sources: str
    inputs: str
    environment: Mapping[str, Any]
    control: bool = False


def identified(
    catalog: Catalog, cells: Iterable[Cell], malloc: str = "system"
) -> dict[Cell, Identified]:
    """The identity of each cell: its key covers the axes, which hold options and the suite's
    version, the variant's source, given inputs and the machine.
    """
    sources = {v.name: source_digest(catalog, v) for v in catalog.values()}
    claims = claims_of(catalog)
    found = {}
    for cell in cells:
        if cell.variant == CLAIM:
            own = claim_digest(claims[cell.forward], sources)
        else:
            own = sources.get(cell.variant, "")
        inputs = _file_digest(cell.case.inputs)
        machine = environment(cell.case.device, malloc)
        control = _is_control(catalog, cell)
        beside = {"sources": own, "inputs": inputs, "environment": machine, "control": control}
        key = digest_of({"axes": cell.axes(), **beside})
        found[cell] = Identified(key, own, inputs, machine, control)
    return found


def _is_control(catalog: Catalog, cell: Cell) -> bool:
    variant = catalog.variants.get(cell.variant)
    return variant.metadata.control if variant else not cell.variant.isidentifier()


def _file_digest(inputs: str) -> str:
    """A digest of the file, where the inputs come from one."""
    path = Path(inputs)
    if inputs in ("normal", "peaked") or not path.is_file():
        return ""
    return _digest_at(path, path.stat().st_mtime_ns)


@cache
def _digest_at(path: Path, changed_at: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_digest(catalog: Catalog, variant: Variant) -> str:
    """A digest of the files that define ``variant``, and what its identities compare it with."""
    others = [i.equals for i in variant.identities if isinstance(i.equals, str)]
    if variant.approximates:
        others.append(variant.approximates)
    related = [variant, *(catalog[name] for name in others)]
    return digest_of(sorted({text for v in related for text in _sources(_functions(v))}))


def claim_digest(claim: Claim, sources: Mapping[str, str]) -> str:
    """A digest of the files that define ``claim``, and of those of the variants in its roles."""
    # A partial's text holds addresses, which change; what it binds stands in the claim's file.
    given = [fn for fn in (claim.measure, claim.count) if fn]
    functions = [fn.func if isinstance(fn, functools.partial) else fn for fn in given]
    roles = [sources.get(name, "") for name in claim.roles.values()]
    stated = [repr(criterion) for criterion in claim.criteria]
    return digest_of([sorted(_sources(functions)), roles, stated])


def _sources(functions: Iterable[Callable[..., Any]]) -> Iterator[str]:
    """One digest a file, and one for each function that has none."""
    files: dict[Path, None] = {}
    for fn in functions:
        if not _follow(fn, files):
            yield hashlib.sha256(_code(fn).encode()).hexdigest()
    yield from (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def _follow(fn: Callable[..., Any], files: dict[Path, None]) -> bool:
    """Gather the file of ``fn`` and those near it whose functions it imports; False without one.

    The whole file counts, since a function calls what is in it; near are the files of its own
    folder and ours, but not those of torch and other packages.
    """
    fn = inspect.unwrap(fn)
    try:
        path = Path(inspect.getsourcefile(fn) or "")
    except TypeError:
        return False
    if not path.is_file():
        return False
    if path not in files:
        files[path] = None
        for value in list(getattr(fn, "__globals__", {}).values()):
            if inspect.isfunction(value) and _is_near(value, path):
                _follow(value, files)
    return True


def _is_near(fn: Callable[..., Any], path: Path) -> bool:
    home = Path(inspect.getsourcefile(fn) or "")
    return home.parent == path.parent or fn.__module__.startswith(NEAR)


def _functions(variant: Variant) -> Iterator[Callable[..., Any]]:
    yield from (variant.forward(name).fn for name in variant.forwards)
    yield from (f for f in (variant.parameters, variant.inputs, variant.noise) if f)


def _code(fn: Callable[..., Any]) -> str:
    """What a function that was typed in computes; without addresses, which change."""
    code = getattr(fn, "__code__", None)
    return _of_code(code) if isinstance(code, CodeType) else getattr(fn, "__qualname__", str(fn))


def _of_code(code: CodeType) -> str:
    constants = [_of_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))
