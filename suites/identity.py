"""The identity of a cell: two cells with the same key need be measured only once."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.variants import Variant
from bakeoff.suites.environment import digest_of, environment
from bakeoff.suites.records import Cell

__all__ = ["key_of", "source_digest"]


def key_of(cell: Cell, sources: str) -> str:
    """Covers the axes, the suite's version, the variant's source and the machine.

    Args:
        cell: The cell.
        sources: The :func:`source_digest` of its variant.
    """
    return digest_of(
        {
            "axes": cell.axes(),
            "sources": sources,
            "environment": environment(cell.case.device),
        }
    )


def source_digest(catalog: Catalog, variant: Variant) -> str:
    """A digest of the files that define ``variant``, and what its identities compare it with."""
    others = [i.equals for i in variant.identities if isinstance(i.equals, str)]
    if variant.approximates:
        others.append(variant.approximates)
    related = [variant, *(catalog[name] for name in others)]
    return digest_of(sorted({text for v in related for text in _sources(v)}))


def _sources(variant: Variant) -> Iterator[str]:
    """One digest a function: of the whole file where there is one, since it calls what is in it."""
    for fn in _functions(variant):
        try:
            path = inspect.getsourcefile(inspect.unwrap(fn))
            yield hashlib.sha256(Path(path or "").read_bytes()).hexdigest()
        except (TypeError, OSError):
            yield hashlib.sha256(_code(fn).encode()).hexdigest()


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
