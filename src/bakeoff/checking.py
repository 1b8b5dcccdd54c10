"""``bakeoff.check``: measures what one variant must obey, and gathers it in a certificate."""

from __future__ import annotations

import inspect
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import discover
from bakeoff.registry.variants import Variant
from bakeoff.reports.certificate import Certificate, Guide, certificate_of
from bakeoff.reports.rows import rows_of
from bakeoff.suites.planning import planned
from bakeoff.suites.probes import PROBES
from bakeoff.suites.recurrences import RECURRENCE_CHECKS
from bakeoff.suites.runner import Progress, execute
from bakeoff.suites.selection import DEFAULT_TIMEOUT
from bakeoff.suites.spec import Job
from bakeoff.suites.supervisor import Limits

__all__ = ["check", "guide_to", "jobs_of"]

#: Suites that judge; of ``scaling`` the counts, which need no clock.
SUITES = ("accuracy", "gradient", "scaling")
#: Beside the small sizes a length beyond the largest usual block, in one dtype.
LONG = {
    "seq_lens": 521,
    "batches": 1,
    "patterns": ("self", "causal_self"),
    "dtypes": "float32",
    "inputs": "normal",
    "grids": "none",
}

_PROBES = {probe.__name__: probe for probes in PROBES.values() for probe in probes}
_BUDGET = "at most 2 error budgets: the error of the reference in this dtype, and of its rounding"
#: What must hold, by the name of the metric; a probe says it in its first line.
_EXPECTED = {
    name: " ".join((inspect.getdoc(probe) or "").partition("\n\n")[0].split())
    for name, probe in {**_PROBES, **{c.__name__: c for c in RECURRENCE_CHECKS}}.items()
} | {
    "error_ratio": _BUDGET,
    "error_ratio_masked": f"{_BUDGET}, with a random mask",
    "grad_error_ratio": f"{_BUDGET}, in every gradient",
    "gradcheck": "the backward is the derivative of the forward, or is declared not to be",
    "identity": "it holds as declared, and does not hold under `unless`",
    "identity_causal": "it holds as declared, and does not hold under `unless`",
    "property": "what metadata.properties declares",
    "flops_exponent": "FLOPs grow as `complexity` declares",
    "bytes_exponent": "bytes grow as `memory` declares",
    "flops_declared": "at most 5% above what is counted, and at least half of it",
    "bytes_declared": "at most what its operations move",
}
#: Where such a fault usually is.
_LOOK = {
    "no_future_leak": "causal: key j of query i needs j <= i + Nk - Nq (bakeoff.allowed_keys)",
    "mask_obeyed": "mask: True is may attend; a hidden score needs -inf before the softmax",
    "mask_shapes": "mask: expand it to (B, H, Nq, Nk) before indexing it",
    "mask_gradient": "what the backward makes of the mask",
    "no_key": "a row without keys: bakeoff.masked_softmax gives zeros, not NaN",
    "error_ratio_masked": "the mask's sense, and how it meets causal",
    "scale_given": "scale: use it in place of the default, once",
    "value_size": "the default scale is 1/sqrt(D), D the size of q and k, not of v",
    "options_obeyed": "each bound: < or <=, and both ends",
    "non_contiguous": "strides: .contiguous() or .reshape() in place of .view(), in backward too",
    "with_a_graph": "what differs where torch.is_grad_enabled()",
    "prime": "the last block, when it is not full",
    "single": ".squeeze() without a dimension, and divisions by N - 1",
    "extreme": "exp of large numbers (take the largest off first), and 0 / 0",
    "dtype_kept": "tensors made without dtype=, and the cast back to that of the input",
    "device_kept": "tensors made without device=",
    "not_mutated": "operations that end with _, and out=",
    "deterministic": "randomness that `noise` does not declare",
    "global_state_kept": "calls of torch.set_..., torch.manual_seed, and the like",
    "batch_independent": "reductions over the first dimension, or over all",
    "leading_sizes": "dimensions counted from the left: count from the right",
    "arguments_matter": "the argument is not used; use it, or declare it in metadata.unused",
    "grad_error_ratio": "the backward of this input: factors, and what is detached",
    "gradcheck": "the backward of this input, and what is detached",
    "flops_declared": "Forward(flops=...)",
    "flops_exponent": "Forward(complexity=...)",
    "bytes_exponent": "Forward(memory=...)",
}


def check(
    variant: str | Variant,
    *,
    catalog: Catalog | None = None,
    plugins: Iterable[str | Path] = (),
    progress: Progress | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    **axes: Any,
) -> Certificate:
    """Check one variant: every probe, property, gradient and identity of every forward.

    Args:
        variant: Its name; or a variant, which need not be registered.
        catalog: Where it is found, and what it is compared with; :func:`bakeoff.load` with
            ``plugins`` if None.
        plugins: Paths of plugin files.
        progress: Sees the run as it goes.
        timeout: Seconds that one cell may take without a sign of life.
        **axes: Fields of :class:`bakeoff.suites.selection.Selection` that differ from the preset
            ``check``: ``devices``, ``dtypes``, ``forwards``, …

    Raises:
        UnknownNameError: For a name that is not known.
        InvalidVariantError: For a variant that breaks the contract.

    Example:
        >>> import bakeoff
        >>> certificate = bakeoff.check("relu", dtypes="float32")
        >>> certificate.verdict, [forward.name for forward in certificate.forwards]
        ('right', ['reference', 'torch'])
    """
    started = time.monotonic()
    catalog = discover(plugins) if catalog is None else catalog
    if isinstance(variant, Variant):
        catalog, name = catalog.with_variants(variant), variant.name
    else:
        name = catalog[variant].name
    jobs = jobs_of(catalog, name, **axes)
    with tempfile.TemporaryDirectory(prefix="bakeoff-check-") as folder:
        file = Path(folder) / "results.sqlite"
        results = execute(jobs, catalog, file, limits=Limits(timeout), progress=progress)
        rows = rows_of(results.to_pandas())
    seconds = time.monotonic() - started
    return certificate_of(
        rows, name, catalog.origins.get(name, ""), guide_to(catalog[name]), seconds
    )


def jobs_of(catalog: Catalog, name: str, **axes: Any) -> list[Job]:
    """Every job that judges a variant; none that takes a time."""
    chosen = {"variants": name, **axes}
    jobs = planned(catalog, SUITES, "check", chosen)
    if catalog[name].kind == "attention":
        jobs += planned(catalog, "accuracy", "check", {**LONG, **chosen})
    return [job for job in jobs if job.cells[0].extra.get("check") != "times"]


def guide_to(variant: Variant) -> Guide:
    """What the checks mean, and where the forwards are."""
    return Guide(_EXPECTED, _LOOK, {name: _place(variant, name) for name in variant.forwards})


def _place(variant: Variant, name: str) -> str:
    """The file and the line of a forward, shown relative to the working directory."""
    fn = inspect.unwrap(variant.forward(name).fn)
    try:
        file, line = inspect.getsourcefile(fn), inspect.getsourcelines(fn)[1]
    except (TypeError, OSError):
        return ""
    here = Path.cwd()
    path = Path(file or "")
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{os.fspath(shown)}:{line}"
