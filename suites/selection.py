"""What is measured: the axes, and what a preset makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnknownNameError, UsageError, did_you_mean
from bakeoff.registry.shapes import PATTERNS
from bakeoff.registry.variants import Variant
from bakeoff.suites.claims.claim import SCALES
from bakeoff.suites.grids import NO_GRID, grid_of
from bakeoff.suites.presets import PRESETS

__all__ = [
    "CHOICES",
    "DEFAULT_TIMEOUT",
    "SINGLE",
    "Selection",
    "selection_for",
]

#: Axes that take one of a few values.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "patterns": tuple(PATTERNS),
    "dtypes": ("float32", "bfloat16", "float16", "float64"),
    "directions": ("forward", "backward", "training"),
    "modes": ("eager", "compiled"),
    "initialisations": ("he", "xavier", "orthogonal", "critical", "critical_orthogonal"),
    "covering": ("float32", "bfloat16", "float16", "float64"),
}
DEFAULT_TIMEOUT = 120.0
#: Fields of the selection that are no axis: they take one value.
SINGLE = (
    "budget",
    "precision",
    "baseline",
    "cache",
    "launches",
    "draws",
    "scale",
    "steps",
    "per_section",
    "effort",
)


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
        covering: Those in which every forward is put to a covering array of sizes and arguments;
            empty leaves that out.
        devices: Names of devices.
        directions: forward, backward, training; each suite takes those that it knows.
        modes: eager, compiled.
        inputs: normal, peaked, or paths of files of tensors.
        seeds: Seeds of what is drawn.
        threads: Threads within one operation.
        depths: Layers: of the stacks in which gradient flow is measured, where empty leaves that
            out; of the models that learn, where empty takes those that each task states.
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
        tasks: Names of learning tasks.
        steps: Training steps of one run; 0 for what each task states.
        per_section: Whether, where no variant is named, one of each section of the textbook
            learns for all.
        models: Names of models of the suite ``applications``; empty for all.
        effort: How long those are trained, as a multiple of their usual steps.
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
    covering: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    directions: tuple[str, ...] = ("forward", "training")
    modes: tuple[str, ...] = ("eager",)
    inputs: tuple[str, ...] = ("normal",)
    seeds: tuple[int, ...] = (0,)
    threads: tuple[int, ...] = (1,)
    depths: tuple[int, ...] = ()
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
    tasks: tuple[str, ...] = ()
    steps: int = 0
    per_section: bool = False
    models: tuple[str, ...] = ()
    effort: float = 1.0

    def is_cold(self, device: str) -> bool:
        """Whether caches are emptied before each call on this device."""
        return self.cache == "cold" or (not self.cache and device.startswith("cuda"))

    def chosen(self, catalog: Catalog) -> tuple[Variant, ...]:
        """The variants that the names, kinds and tags select.

        Adapters to other libraries are among them only where they are named or tagged.

        Raises:
            UnknownNameError: For a name, kind, tag, forward or option that nothing has.
        """
        variants = catalog.select(
            kind=self.kinds or None, tags=self.tags, names=self.variants or None
        )
        if not self.variants and "peer" not in self.tags:
            variants = tuple(v for v in variants if "peer" not in v.metadata.tags)
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
    if not isinstance(selection.steps, int) or selection.steps < 0:
        raise UsageError(f"steps: got {selection.steps!r}, expected a number of training steps")
    if not selection.effort > 0:
        raise UsageError(f"effort: got {selection.effort!r}, expected a number above 0")


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
