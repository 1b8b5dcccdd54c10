"""Pick a variant from what was measured on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import discover
from bakeoff.registry.errors import UsageError
from bakeoff.reports.pick.pick import Pick, picked
from bakeoff.reports.pick.request import Request
from bakeoff.suites.environment import digest_of, environment
from bakeoff.suites.progress import Progress
from bakeoff.suites.runner import run
from bakeoff.suites.store import DEFAULT_PATH, Results

__all__ = ["pick"]

#: Sizes that may be asked for, with the axis of the selection that each is measured by.
SIZES = {
    "batch": "batches",
    "heads": "heads",
    "head_dim": "head_dims",
    "features": "features",
    "threads": "threads",
}


def pick(
    kind: str,
    seq_len: int,
    *,
    pattern: str | None = None,
    train: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    mode: str = "eager",
    tags: Iterable[str] = (),
    max_memory: float | None = None,
    max_approximation_error: float | None = None,
    min_accuracy: Mapping[str, float] | None = None,
    results: str | Path = DEFAULT_PATH,
    measure: bool = False,
    catalog: Catalog | None = None,
    progress: Progress | None = None,
    **sizes: int | None,
) -> Pick:
    """What to take for a case on this machine, from measured results alone.

    A forward fits if it is not wrong, was found right in the dtype (with ``train`` its gradient,
    too), was timed on this machine with this software, and keeps the limits; the fastest is taken.

    Args:
        kind: ``activation``, ``attention`` or ``connection``.
        seq_len: The length N.
        pattern: For attention, self if None.
        train: Whether forward and backward count together.
        dtype: Name of a torch dtype.
        device: Name of a device.
        mode: ``eager`` or ``compiled``.
        tags: Tags that a variant must have, all of them.
        max_memory: The most bytes that a call may hold at once.
        max_approximation_error: The most that an approximation may be away from what it stands
            for; a variant that approximates nothing is not held to it.
        min_accuracy: By task of the learning suite the least accuracy.
        results: The results file.
        measure: Whether to measure first what is missing.
        catalog: Where the variants come from; :func:`bakeoff.load` if None.
        progress: Sees the measuring as it goes.
        **sizes: ``batch``, ``heads``, ``head_dim``, ``features``, ``threads``, where the results
            hold several.

    Raises:
        UnknownNameError: For a kind or tag that is not known.
        UsageError: Where nothing was measured here, or a size is left open that the results vary.
        StoreError: Where the results can't be read.

    Example:
        >>> import bakeoff, tempfile
        >>> file = tempfile.mkdtemp() + "/results.sqlite"
        >>> _ = bakeoff.run("memory", variants="relu", seq_lens=64, results=file)
        >>> bakeoff.pick("activation", 64, results=file).taken is None  # no time was measured
        True
    """
    catalog = discover() if catalog is None else catalog
    chosen = catalog.select(kind=kind, tags=tuple(tags))
    if all(variant.metadata.control for variant in chosen):
        raise UsageError(
            f"no {kind} has all of these tags: {', '.join(tags)}; take fewer (controls are never "
            "taken)"
        )
    given = {name: size for name, size in sizes.items() if size is not None}
    for name in given:
        if name not in SIZES:
            raise UsageError(f"{name}: no such size; expected one of {', '.join(SIZES)}")
    axes: dict[str, Any] = {
        "direction": "training" if train else "forward",
        "dtype": dtype,
        "device": device,
        "mode": mode,
        "inputs": "normal",
        **given,
    }
    if kind == "attention":
        axes["pattern"] = pattern or "self"
    request = Request(
        kind,
        seq_len,
        axes,
        {variant.name: variant.metadata for variant in chosen},
        max_memory,
        max_approximation_error,
        min_accuracy or {},
    )
    if measure:
        _measure(request, catalog, results, progress)
    return picked(Results(results), digest_of(environment(device)), request)


def _measure(
    request: Request, catalog: Catalog, results: str | Path, progress: Progress | None
) -> None:
    """What the request needs and the results lack; what they hold is not measured again."""
    axes = request.axes
    common = {
        "results": results,
        "catalog": catalog,
        "progress": progress,
        "variants": tuple(n for n, said in request.variants.items() if not said.control),
        "dtypes": axes["dtype"],
        "devices": axes["device"],
    }
    suites = ["accuracy", "gradient"] if request.training else ["accuracy"]
    run(suites, **common)
    sizes = {SIZES[name]: size for name, size in axes.items() if name in SIZES}
    case = {"seq_lens": request.seq_len, "directions": axes["direction"], "modes": axes["mode"]}
    if "pattern" in axes:
        case["patterns"] = axes["pattern"]
    run(["speed", "memory"], **common, **case, **sizes, grids="none")
    if request.min_accuracy:
        run(["learning"], **common, tasks=tuple(request.min_accuracy))
