"""Compare two results files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.discovery import discover
from bakeoff.reports.compare.comparison import Comparison, compared
from bakeoff.suites.spec import suites_of
from bakeoff.suites.store import Results

if TYPE_CHECKING:
    from bakeoff.suites.metrics import Metric

__all__ = ["compare", "metrics_of"]


def compare(
    old: Results | str | Path,
    new: Results | str | Path,
    *,
    by: str = "ratio",
    threshold: float = 0.05,
    catalog: Catalog | None = None,
    kinds: Iterable[str] = (),
    suites: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> Comparison:
    """What became better, worse or wrong from one results file to the other.

    Args:
        old: One results file, or its path.
        new: The other.
        by: By what times are compared: ``ratio``, ``kernel_ratio`` or ``time``.
        threshold: The least change of what was sampled that is called better or worse.
        catalog: Whose suites say how their metrics compare; :func:`bakeoff.load` if None.
        kinds: Only these kinds; none for all. Likewise ``suites`` and ``variants``.

    Raises:
        UnknownNameError: For a name that neither file holds, or an unknown ``by``.
        UsageError: Where the files have nothing that can be compared.
        StoreError: Where a file can't be read.

    Example:
        >>> import bakeoff, tempfile
        >>> file = tempfile.mkdtemp() + "/results.sqlite"
        >>> _ = bakeoff.run("memory", variants="relu", seq_lens=64, results=file)
        >>> {change.verdict for change in bakeoff.compare(file, file).changes}
        {'no difference'}
    """
    return compared(
        old if isinstance(old, Results) else Results(old),
        new if isinstance(new, Results) else Results(new),
        metrics_of(discover() if catalog is None else catalog),
        by=by,
        threshold=threshold,
        kinds=kinds,
        suites=suites,
        variants=variants,
    )


def metrics_of(catalog: Catalog) -> dict[tuple[str, str], Metric]:
    """What the suites declare, by suite and metric."""
    return {
        (suite.name, name): metric
        for suite in suites_of(catalog).values()
        for name, metric in suite.metrics.items()
    }
