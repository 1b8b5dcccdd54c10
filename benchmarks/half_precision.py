"""What half precision leaves of every forward, by length: errors against float64, lost rows.

    python benchmarks/half_precision.py [NAME ...] [--lengths 128,1024] [--dtypes bfloat16]
        [--seconds 60] [--gib 6] [--peers]

For each forward the relative error (norm of the error ÷ norm of the output) against the float64
reference on the same rounded inputs, and in brackets the error that rounding all inputs once more
would cost; then the shares of rows that are all zero, and that are not finite, where exact ones are
not. One example, one head, 64 features. A cell that needs more time or memory than allowed says so,
and the longer ones of its kind are left out.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from document import table

import bakeoff
from bakeoff.registry.shapes import Case
from bakeoff.registry.variants import Variant
from bakeoff.suites.records import Status
from bakeoff.suites.verdicts import status_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from rounding import Rounding, Sample, cases, forwards

LENGTHS = (128, 512, 1024, 2048, 4096, 8192)
DTYPES = ("float16", "bfloat16")
#: A row of the table: variant, forward, pattern, dtype.
Row = tuple[str, str, str, str]


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise a TimeoutError in the body when it takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"over {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def text_of(found: Rounding, moved: float) -> str:
    """An error with what rounding the inputs costs, and lost rows where there are any."""
    text = f"{found.relative_error:.1e} ({moved:.1e})"
    if found.zeros:
        text += f", {found.zeros:.0%} zero"
    if found.infinite:
        text += f", {found.infinite:.0%} not finite"
    return text


def measure(variant: Variant, case: Case, seconds: int) -> Iterator[tuple[str, str]]:
    """Each forward with what came out of it."""
    names = list(forwards(variant, case))
    try:
        with limit(seconds):
            sample = Sample(variant, case)
            moved = sample.moved()
    except (TimeoutError, RuntimeError, MemoryError) as error:
        yield from ((name, f"oracle {_reason(error)}") for name in names)
        return
    for name in names:
        try:
            with limit(seconds):
                yield name, text_of(sample.rounding(name), moved)
        except (TimeoutError, RuntimeError, MemoryError) as error:
            yield name, _reason(error)


def _reason(error: BaseException) -> str:
    """Why a cell has no number; what is no lack of time or memory is raised again."""
    if isinstance(error, TimeoutError):
        return str(error)
    if status_of(error) is not Status.OOM:
        raise error
    return "no memory"


def main() -> None:
    """Measure, print each cell as it comes, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--seconds", type=int, default=60, help="for one call")
    parser.add_argument("--gib", type=float, default=6.0, help="of memory")
    parser.add_argument("--peers", action="store_true", help="forwards of other packages too")
    given = parser.parse_args()
    size = int(given.gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    catalog = bakeoff.load(entry_points=False, pyproject=False)
    lengths = [int(n) for n in given.lengths.split(",")]
    rows: dict[Row, dict[int, str]] = {}
    for name in given.names or catalog:
        variant = catalog[name]
        if "peer" in variant.metadata.tags and not given.peers:
            continue
        for dtype in given.dtypes.split(","):
            for n in lengths if variant.kind == "attention" else lengths[:1]:
                for case in cases(variant, dtype, n):
                    for forward, text in measure(variant, case, given.seconds):
                        row = (name, forward, case.pattern or "", dtype)
                        rows.setdefault(row, {})[n] = text
                        print(*row, n, text, flush=True)
    headers = ("variant", "forward", "pattern", "dtype", *(f"N = {n}" for n in lengths))
    print(
        table(
            headers, ([*row, *(cells.get(n, "") for n in lengths)] for row, cells in rows.items())
        )
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
