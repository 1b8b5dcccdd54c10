"""Which cells are measured: the axes, the presets, and their product."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bakeoff.registry.binding import resolve_options, takes
from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnknownNameError, UsageError, did_you_mean
from bakeoff.registry.shapes import PATTERNS, Case, FeatureShape, Shape
from bakeoff.registry.variants import Attention, Variant
from bakeoff.suites.claims.claim import SCALES
from bakeoff.suites.grids import NO_GRID, ON_GRIDS, grid_of, positions
from bakeoff.suites.presets import PRESETS
from bakeoff.suites.records import Cell

__all__ = [
    "CHOICES",
    "DEFAULT_TIMEOUT",
    "SINGLE",
    "Selection",
    "expand",
    "selection_for",
    "usual_heads",
]

#: Axes that take one of a few values.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "patterns": tuple(PATTERNS),
    "dtypes": ("float32", "bfloat16", "float16", "float64"),
    "directions": ("forward", "backward", "training"),
    "modes": ("eager", "compiled"),
    "initialisations": ("he", "xavier", "orthogonal", "critical", "critical_orthogonal"),
}
DEFAULT_TIMEOUT = 120.0
#: Fields of the selection that are no axis: they take one value.
SINGLE = ("budget", "precision", "baseline", "cache", "launches", "draws", "scale")


@dataclass(frozen=True)
class Selection:
    """What to measure: an empty tuple of names selects all; the axes are crossed.

    Args:
        kinds: Kinds of variant.
        variants: Names or aliases.
        tags: Tags that a variant must have, all of them.
        forwards: Names of forwards.
        patterns: Patterns of attention.
        seq_lens: Lengths N; the number of keys when decoding, else of queries or rows.
        kv_lens: Numbers of keys where that is not N; empty takes N/2 for cross, 2N for causal
            cross.
        grids: For variants that take a grid: ``none``, ``square``, ``pyramid``, or levels such as
            ``8x12+4x6`` (see :func:`bakeoff.suites.grids.grid_of`); other variants ignore it.
        batches: Batch sizes.
        heads: Numbers of heads.
        kv_heads: Numbers of key and value heads; empty takes as many as heads, and fewer where
            the variant is grouped (see :func:`usual_heads`).
        head_dims: Sizes of a head.
        features: Sizes of a row, for activations and connections.
        dtypes: Names of torch dtypes.
        devices: Names of devices.
        directions: forward, backward, training; each suite takes those that it knows.
        modes: eager, compiled.
        inputs: normal, peaked, or paths of files of tensors.
        seeds: Seeds of what is drawn.
        threads: Threads within one operation.
        depths: Layers of the stacks in which gradient flow is measured.
        initialisations: Of stacks of activations: he, xavier, orthogonal, critical,
            critical_orthogonal.
        options: Values to sweep, by the name of the option.
        budget: Seconds that one race may take.
        precision: The half-width wanted for the interval of a ratio, as a share: 0.03 for ±3%.
        baseline: What rivals are compared with, as ``variant:forward``; empty for the fixed one
            of each kind.
        cache: ``warm``, or ``cold`` where caches are emptied before each call; empty for warm on
            the CPU and cold on a GPU, as is the custom there.
        launches: How often a race is repeated, each time in a new process.
        draws: Stacks that are drawn, with seeds of their own, for each cell of gradient flow.
        claims: Names of claims, for the suite of that name.
        scale: How large the experiments of claims are: one of
            :data:`bakeoff.suites.claims.claim.SCALES`.
    """

    kinds: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    forwards: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ("self", "causal_self")
    seq_lens: tuple[int, ...] = (128, 512)
    kv_lens: tuple[int, ...] = ()
    grids: tuple[str, ...] = (NO_GRID, "square")
    batches: tuple[int, ...] = (1,)
    heads: tuple[int, ...] = (4,)
    kv_heads: tuple[int, ...] = ()
    head_dims: tuple[int, ...] = (64,)
    features: tuple[int, ...] = (256,)
    dtypes: tuple[str, ...] = ("float32",)
    devices: tuple[str, ...] = ("cpu",)
    directions: tuple[str, ...] = ("forward", "training")
    modes: tuple[str, ...] = ("eager",)
    inputs: tuple[str, ...] = ("normal",)
    seeds: tuple[int, ...] = (0,)
    threads: tuple[int, ...] = (1,)
    depths: tuple[int, ...] = (4, 16)
    initialisations: tuple[str, ...] = ("he",)
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    budget: float = 4.0
    precision: float = 0.03
    baseline: str = ""
    cache: str = ""
    launches: int = 1
    draws: int = 8
    claims: tuple[str, ...] = ()
    scale: str = "quick"

    def is_cold(self, device: str) -> bool:
        """Whether caches are emptied before each call on this device."""
        return self.cache == "cold" or (not self.cache and device.startswith("cuda"))

    def chosen(self, catalog: Catalog) -> tuple[Variant, ...]:
        """The variants that the names, kinds and tags select.

        Raises:
            UnknownNameError: For a name, kind, tag, forward or option that nothing has.
        """
        variants = catalog.select(
            kind=self.kinds or None, tags=self.tags, names=self.variants or None
        )
        self._require("a forward", self.forwards, {f for v in variants for f in v.forwards})
        self._require("an option", tuple(self.options), {o for v in variants for o in v.options})
        return variants

    @staticmethod
    def _require(what: str, names: tuple[str, ...], known: set[str]) -> None:
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"no selected variant has {what} called {name!r}; {did_you_mean(name, known)}"
                )


def selection_for(preset: str, suite: str, given: Mapping[str, Any]) -> Selection:
    """The selection of ``suite``: the preset's axes, changed by what was given.

    Raises:
        UnknownNameError: For an unknown preset or axis.
        UsageError: For a value that an axis can't take.
    """
    if preset not in PRESETS:
        raise UnknownNameError(f"no preset is called {preset!r}; {did_you_mean(preset, PRESETS)}")
    axes = {f.name for f in fields(Selection)}
    for name in given:
        if name not in axes:
            raise UnknownNameError(f"no axis is called {name!r}; {did_you_mean(name, axes)}")
    changes = {**PRESETS[preset][""], **PRESETS[preset].get(suite, {}), **given}
    selection = replace(Selection(), **changes)
    for name, allowed in CHOICES.items():
        for value in getattr(selection, name):
            if value not in allowed:
                raise UsageError(f"{name}: got {value!r}, expected one of {', '.join(allowed)}")
    for value in selection.inputs:
        if value not in ("normal", "peaked") and not Path(value).is_file():
            raise UsageError(
                f"inputs: got {value!r}, expected normal, peaked or the path of a file of tensors"
            )
    for value in selection.grids:
        grid_of(value, 1)
    for value in selection.depths:
        if value < 2:
            raise UsageError(f"depths: got {value!r}, expected at least 2 layers to compare")
    for value in selection.devices:
        _require_device(value)
    _check_plain(selection)
    for name in _SIZES:
        for value in getattr(selection, name):
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name}: got {value!r}, expected integers of at least 1")
    return selection


def _check_plain(selection: Selection) -> None:
    """What has one value."""
    if selection.cache not in ("", "warm", "cold"):
        raise UsageError(f"cache: got {selection.cache!r}, expected warm or cold")
    if not 0 < selection.precision < 1:
        raise UsageError(
            f"precision: got {selection.precision!r}, expected a share such as 0.03 for 3%"
        )
    for name in ("launches", "draws"):
        value = getattr(selection, name)
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"{name}: got {value!r}, expected a number of at least 1")
    if selection.scale not in SCALES:
        raise UsageError(f"scale: got {selection.scale!r}, expected one of {', '.join(SCALES)}")


def _require_device(name: str) -> None:
    import torch

    try:
        torch.device(name)
    except RuntimeError as error:
        told = str(error).splitlines()[0]
        raise UsageError(f"devices: got {name!r}, expected a device of torch: {told}") from error


_SIZES = (
    "seq_lens",
    "kv_lens",
    "batches",
    "heads",
    "kv_heads",
    "head_dims",
    "features",
    "threads",
    "depths",
)


def expand(
    suite: str,
    version: int,
    catalog: Catalog,
    selection: Selection,
    *,
    directions: tuple[str, ...] | None = None,
    keep: Callable[[Variant], bool] = lambda variant: True,
) -> Iterator[Cell]:
    """Every cell of the selection: forwards vary fastest, so that rivals stand together.

    Args:
        suite: Name of the suite.
        version: Its version.
        catalog: The variants.
        selection: The axes.
        directions: The directions that the suite knows; None for all that are selected.
        keep: Which variants the suite can measure at all.
    """
    wanted = [d for d in selection.directions if directions is None or d in directions]
    for variant in selection.chosen(catalog):
        if not keep(variant):
            continue
        forwards = [
            f for f in variant.forwards if not selection.forwards or f in selection.forwards
        ]
        for case in _cases(variant, selection, wanted):
            for forward in forwards:
                yield Cell(suite, version, variant.name, forward, case)


def _cases(variant: Variant, selection: Selection, directions: list[str]) -> Iterator[Case]:
    attention = variant.kind == "attention"
    if attention:
        shapes = _attention_shapes(variant, _with_allowed_pattern(variant, selection))
    else:
        shapes = _feature_shapes(selection)
    for (
        pattern,
        shape,
    ), options, dtype, device, direction, mode, inputs, seed, threads in itertools.product(
        list(dict.fromkeys(shapes)),
        list(_sweep(variant, selection)),
        selection.dtypes,
        selection.devices,
        directions,
        selection.modes,
        selection.inputs,
        selection.seeds,
        selection.threads,
    ):
        yield Case(
            kind=variant.kind,
            shape=shape,
            pattern=pattern,
            options=options,
            dtype=dtype,
            device=device,
            direction=direction,
            mode=mode,
            inputs=inputs,
            seed=seed,
            threads=threads,
        )


def _with_allowed_pattern(variant: Variant, selection: Selection) -> Selection:
    """A variant that allows no selected pattern is measured on one that it allows, too."""
    allowed = variant.declared("patterns")
    if not allowed or set(allowed) & set(selection.patterns):
        return selection
    return replace(selection, patterns=(*selection.patterns, allowed[0]))


def usual_heads(variant: Variant, shape: Shape) -> Shape:
    """The shape with the key heads that a variant is measured with, where no number is asked for.

    As many as in ``shape``; where the variant is grouped, the most that are fewer and that its
    reference supports.
    """
    if not (isinstance(variant, Attention) and variant.grouped):
        return shape
    for kv_heads in range(shape.heads - 1, 0, -1):
        if shape.heads % kv_heads == 0:
            fewer = replace(shape, kv_heads=kv_heads)
            case = Case(kind=variant.kind, shape=fewer, pattern="self", options=variant.options)
            if variant.forward("reference").why_not(case) is None:
                return fewer
    return shape


def _attention_shapes(
    variant: Variant, selection: Selection
) -> Iterator[tuple[str | None, Shape | FeatureShape]]:
    grids = selection.grids if takes(variant, "grid") else (NO_GRID,)
    for pattern, n, batch, heads, dim in itertools.product(
        selection.patterns,
        selection.seq_lens,
        selection.batches,
        selection.heads,
        selection.head_dims,
    ):
        lengths = _lengths(pattern, n, selection.kv_lens)
        for (q_len, k_len), name in itertools.product(lengths, grids):
            grid = grid_of(name, k_len)
            if grid and pattern not in ON_GRIDS:
                continue
            if grid:
                k_len = positions(grid)
                q_len = k_len if pattern == "self" else q_len
            shape = Shape(batch, heads, heads, q_len, k_len, dim, dim, grid)
            if not selection.kv_heads:
                yield pattern, usual_heads(variant, shape)
            for kv_heads in selection.kv_heads:
                yield pattern, replace(shape, kv_heads=kv_heads)


def _lengths(pattern: str, n: int, kv_lens: tuple[int, ...]) -> list[tuple[int, int]]:
    match pattern:
        case "decode":
            return [(1, n)]
        case "cross":
            return [(n, k_len) for k_len in kv_lens or (max(1, n // 2),)]
        case "causal_cross":
            return [(n, k_len) for k_len in kv_lens or (2 * n,)]
        case _:
            return [(n, n)]


def _feature_shapes(selection: Selection) -> Iterator[tuple[str | None, Shape | FeatureShape]]:
    for batch, n, features in itertools.product(
        selection.batches, selection.seq_lens, selection.features
    ):
        yield None, FeatureShape(batch, n, features)


def _sweep(variant: Variant, selection: Selection) -> Iterator[dict[str, Any]]:
    swept = {n: values for n, values in selection.options.items() if n in variant.options}
    for values in itertools.product(*swept.values()):
        yield resolve_options(variant, dict(zip(swept, values, strict=True)))
