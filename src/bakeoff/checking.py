"""``bakeoff.check``: measures what one variant must obey, and gathers it in a certificate."""

from __future__ import annotations

import inspect
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bakeoff.blaming import causes_of
from bakeoff.registry.catalog import Catalog, Problem
from bakeoff.registry.discovery import discover
from bakeoff.registry.errors import UsageError
from bakeoff.registry.variants import Variant
from bakeoff.reports.certificate import Certificate, Guide, certificate_of
from bakeoff.reports.rows import rows_of
from bakeoff.suites.covered import covering, covering_gradient
from bakeoff.suites.laws import LAWS
from bakeoff.suites.planning import planned
from bakeoff.suites.probes import PROBES, probes_of
from bakeoff.suites.progress import Progress
from bakeoff.suites.properties import MEASURES
from bakeoff.suites.records import Cell
from bakeoff.suites.recurrences import RECURRENCE_CHECKS
from bakeoff.suites.runner import execute
from bakeoff.suites.selection import DEFAULT_TIMEOUT
from bakeoff.suites.spec import Job
from bakeoff.suites.supervisor import Limits

__all__ = ["CAUSES", "check", "checks_of", "guide_to", "jobs_of", "named", "problems_of"]

#: Suites that judge; of ``scaling`` the counts, which need no clock.
SUITES = ("accuracy", "gradient", "scaling")
#: Beside the preset's cells: inputs of which few keys win, and for attention a length beyond the
#: largest usual block.
PEAKED = {
    "inputs": "peaked",
    "dtypes": ("float32", "bfloat16"),
    "patterns": ("self", "causal_self"),
}
LONG = {
    "seq_lens": 521,
    "batches": 1,
    "head_dims": 16,
    "patterns": ("self", "causal_self"),
    "dtypes": "float32",
    "grids": "none",
}

_PROBES = {probe.__name__: probe for probes in PROBES.values() for probe in probes}
_BUDGET = "at most 2 error budgets: the error of the reference in this dtype, and of its rounding"
#: What must hold, by the name of the metric; a probe says it in its first line.
_EXPECTED = {
    name: " ".join((inspect.getdoc(probe) or "").partition("\n\n")[0].split())
    for name, probe in {
        **_PROBES,
        **{c.__name__: c for c in (*RECURRENCE_CHECKS, *LAWS, covering, covering_gradient)},
    }.items()
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
    "flops_declared": "at most 5% above what is counted, and at least 60% of it; half, where the "
    "share changes with N, as of blocks that reach beyond a window",
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
    "branch_called": "each call of branch(...), and where its input or output is detached",
    "far_from_zero": "x + c with c near -x, 1 - sigmoid, exp(x) - 1, and sums that cancel",
    "large_scores": "scores that are cut off, and exponents without the largest taken off",
    "relative_accuracy": "x + c with c near -x: torch.expm1, torch.log1p, torch.special.erfc",
    "special_values": "torch.where(x > 0, ...), of which a NaN takes the other branch",
    "dtype_kept": "tensors made without dtype=, and the cast back to that of the input",
    "device_kept": "tensors made without device=",
    "not_mutated": "operations that end with _, and out=",
    "deterministic": "randomness that `noise` does not declare",
    "global_state_kept": "calls of torch.set_..., torch.manual_seed, and the like",
    "batch_independent": "reductions over the first dimension, or over all",
    "leading_sizes": "dimensions counted from the left: count from the right",
    "arguments_matter": "the argument is not used; use it, or declare it in metadata.unused",
    "fresh_values": "what is kept between calls: a cache asks for an address, or for some values",
    "outputs_kept": "a buffer that is made once and written again: make the output anew",
    "many_calls": "what is counted, or kept, between calls",
    "computed_at_return": "threads and streams: wait for them; lazy tensors: return torch.Tensor",
    "same_when_compiled": "what differs where torch.compiler.is_compiling()",
    "linear_backward": "what the backward does to the gradient that comes in, and to what it kept",
    "gradient_of_each": "ctx.needs_input_grad, and requires_grad of single inputs",
    "second_derivative": "what the forward keeps: compute it again in backward, or refuse with "
    "torch.autograd.function.once_differentiable",
    "slope_at_kinks": "torch.where over a branch that is not finite; 0 / 0, and sqrt at 0",
    "grad_error_ratio": "the backward of this input: factors, and what is detached",
    "gradcheck": "the backward of this input, and what is detached",
    "recurrence_state": "what is handed on: all of it, and copied before it is changed",
    "flops_declared": "Forward(flops=...)",
    "flops_exponent": "Forward(complexity=...)",
    "bytes_exponent": "Forward(memory=...)",
}
#: Checks of which an exception shows what they look for: the advice holds for it, too.
_RAISED = (
    "mask_shapes",
    "value_size",
    "non_contiguous",
    "prime",
    "single",
    "device_kept",
    "not_mutated",
    "leading_sizes",
)
_IN_PLACE = (
    "operations in place (+=, names that end with _, out=): autograd needs what they overwrite; "
    "work on a copy"
)
#: torch raises a RuntimeError for nearly everything, and tells by its words what it is.
_WORDS = {"in-place operation": _IN_PLACE, "inplace operation": _IN_PLACE}
#: From causes to symptoms: what changes its surroundings, its inputs or itself makes any other
#: check fail, and what has another dtype or graph than it should makes numbers wrong. What is not
#: named here stands after these, as it was made.
CAUSES = (
    "global_state_kept",
    "not_mutated",
    "deterministic",
    "dtype_kept",
    "device_kept",
    "branch_called",
    "with_a_graph",
    "batch_independent",
    "leading_sizes",
    "arguments_matter",
    "options_obeyed",
    "scale_given",
    "value_size",
    "no_future_leak",
    "mask_obeyed",
    "mask_shapes",
    "no_key",
    "single",
    "prime",
    "non_contiguous",
)


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
    guide = replace(guide_to(catalog[name]), causes=causes_of(rows, jobs, catalog, Limits(timeout)))
    seconds = time.monotonic() - started
    return certificate_of(rows, name, catalog.origins.get(name, ""), guide, seconds)


def jobs_of(catalog: Catalog, name: str, **axes: Any) -> list[Job]:
    """Every job that judges a variant; none that takes a time."""
    chosen = {"variants": name, **axes}
    if "dtypes" in axes:
        chosen.setdefault("covering", axes["dtypes"])
    jobs = planned(catalog, SUITES, "check", chosen)
    beside = (PEAKED, LONG) if catalog[name].kind == "attention" else (PEAKED,)
    for more in beside:
        jobs += planned(catalog, "accuracy", "check", {**more, **chosen, "covering": ()})
    return [job for job in jobs if job.cells[0].extra.get("check") != "times"]


def checks_of(catalog: Catalog, name: str) -> dict[str, list[str]]:
    """The checks of each forward, by the names that they have in a certificate."""
    found: dict[str, dict[str, None]] = {}
    for job in jobs_of(catalog, name):
        for cell in job.cells:
            checks = dict.fromkeys(_named_by(cell, catalog[name]))
            found.setdefault(cell.forward, {}).update(checks)
    return {forward: list(checks) for forward, checks in found.items()}


def _named_by(cell: Cell, variant: Variant) -> Iterator[str]:
    """What the records of a cell are called."""
    attention = variant.kind == "attention"
    match cell.suite, cell.extra["check"]:
        case "accuracy", "error":
            yield from ("error_ratio", "error_ratio_masked")[: 1 + attention]
        case "accuracy", "contract":
            yield from (probe.__name__ for probe in probes_of(variant))
        case "accuracy", "covering":
            yield from ("covering", "covering_gradient")
            if attention:
                yield from (law.__name__ for law in LAWS)
        case "accuracy", "identity":
            for metric in ("identity", "identity_causal")[: 1 + attention]:
                yield f"{metric} ({cell.extra['identity']})"
        case "accuracy", "recurrence":
            yield from (probe.__name__ for probe in RECURRENCE_CHECKS)
        case "accuracy", "properties":
            yield from (f"property_{p}" for p in variant.metadata.properties if p in MEASURES)
        case "gradient", "error":
            yield "grad_error_ratio"
        case "gradient", "gradcheck":
            yield "gradcheck"
        case "scaling", "counts":
            forward = variant.forward(cell.forward)
            declared = {
                "flops_exponent": forward.complexity,
                "bytes_exponent": forward.memory,
                "flops_declared": forward.flops,
                "bytes_declared": forward.min_bytes,
            }
            yield from (metric for metric, given in declared.items() if given)


def named(catalog: Catalog, target: str) -> list[str]:
    """The variants that are meant: one by its name, or all that a plugin file brings.

    Raises:
        UnknownNameError: For a name that is not known.
        UsageError: For a file that is missing, or brings none.
    """
    if not target.endswith(".py"):
        return [catalog[target].name]
    file = Path(target)
    if not file.is_file():
        raise UsageError(f"got {target!r}, expected a file that there is, or the name of a variant")
    names = [name for name, origin in catalog.origins.items() if _is_of(origin, file)]
    if not names and not problems_of(catalog, target):
        raise UsageError(
            f"{target}: it brings no variant; yield one from bakeoff_variants (`bakeoff new` "
            "writes such a file)"
        )
    return names


def problems_of(catalog: Catalog, target: str) -> list[Problem]:
    """What is wrong with a plugin file, so that it or a variant of it was left out."""
    if not target.endswith(".py"):
        return []
    return [problem for problem in catalog.problems if _is_of(problem.origin, Path(target))]


def _is_of(origin: str, file: Path) -> bool:
    """Whether an origin is this file: it stands there relative to the working directory."""
    return Path(origin).resolve() == file.resolve()


def guide_to(variant: Variant) -> Guide:
    """What the checks mean, and where the forwards are."""
    recurrence = getattr(variant, "recurrence", None)
    return Guide(
        expected=_EXPECTED,
        look=_LOOK,
        raised={name: _LOOK[name] for name in _RAISED},
        words=_WORDS,
        order=CAUSES,
        sources={name: _place(variant.forward(name).fn) for name in variant.forwards},
        recurrence=_place(recurrence) if recurrence else "",
    )


def _place(fn: Callable[..., Any]) -> str:
    """The file and the line of a function, shown relative to the working directory."""
    fn = inspect.unwrap(fn)
    try:
        file, line = inspect.getsourcefile(fn), inspect.getsourcelines(fn)[1]
    except (TypeError, OSError):
        return ""
    here = Path.cwd()
    path = Path(file or "")
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{os.fspath(shown)}:{line}"
