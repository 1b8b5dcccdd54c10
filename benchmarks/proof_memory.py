"""Memory against theory: dense attention's peaks and saved bytes, and what activations save.

    python benchmarks/proof_memory.py [--write]

A minute. What theory asks for stands in tests/theory.py, and the tests hold it too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd
from document import publish, table

import bakeoff

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from theory import SAVED, naive_peak, naive_saved, sdpa_saved

MIB = 2**20
LENGTHS = (512, 1024, 2048)


def measured(**given: object) -> pd.DataFrame:
    """The records of the memory suite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.sqlite"
        return bakeoff.run("memory", results=path, **given).to_pandas()  # type: ignore[arg-type]


def attention() -> None:
    """Naive and fused, forward and training, and the same again in another order."""
    given = {"variants": "scaled_dot_product", "patterns": "self"}
    frame = measured(seq_lens=LENGTHS, **given)
    again = measured(seq_lens=LENGTHS[::-1], **given)
    keys = ["forward", "direction", "seq_len", "metric"]
    values = frame.set_index(keys).value
    same = (again.set_index(keys).value.reindex(values.index) == values).all()
    rows = []
    for n in LENGTHS:
        for what, expected in _theory(n):
            found = values[(*what[:2], n, what[2])]
            error = f"{100 * (found / expected - 1):+.3f}%" if expected else "-"
            rows.append((*what, n, f"{found / MIB:.3f}", f"{expected / MIB:.3f}", error))
    headers = ("forward", "direction", "metric", "N", "measured (MiB)", "theory (MiB)", "off by")
    order = "to the byte" if same else "NOT the same"
    told = f"The lengths in the reverse order give, {order}, the same numbers."
    publish("attention", table(headers, rows), told)


def _theory(n: int) -> list[tuple[tuple[str, str, str], int]]:
    return [
        (("reference", "forward", "peak_bytes"), naive_peak(4, n, 64, training=False)),
        (("reference", "training", "peak_bytes"), naive_peak(4, n, 64, training=True)),
        (("reference", "training", "saved_bytes"), naive_saved(4, n, 64)),
        (("sdpa", "training", "saved_bytes"), sdpa_saved(4, n, 64)),
    ]


def activations() -> None:
    """Bytes an element, of every activation."""
    rows_, features = 512, 256
    frame = measured(kinds="activation", seq_lens=rows_, features=features, directions="training")
    frame = frame[frame.metric == "saved_bytes"]
    found = {f"{r.variant}:{r.forward}": r.value for r in frame.itertuples()}
    rows = []
    for label, saved in SAVED.items():
        expected = saved.of(rows_, features)
        each = f"{found[label] / rows_ / features:.4g}"
        told = "exact" if found[label] == expected else f"off by {found[label] - expected:+.0f}"
        rows.append((f"`{label}`", saved.what, each, told))
    headers = ("forward", "what is kept", "bytes an element", "against theory")
    publish("activations", table(headers, rows))


if __name__ == "__main__":
    attention()
    activations()
