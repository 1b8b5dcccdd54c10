"""Draw the README's picture from a results file: ``python benchmarks/picture.py RESULTS OUT.svg``.

The results come from two runs into one file::

    bakeoff run --results RESULTS --suite accuracy,gradient \
        --variant scaled_dot_product,sliding_window,multi_head,general
    bakeoff run --results RESULTS --suite speed --pattern causal_self --direction training \
        --variant scaled_dot_product,sliding_window,multi_head,general \
        --seq-len 128,256,512,1024,2048,4096 --budget 20
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import vl_convert

import bakeoff
from bakeoff.reports.charts import chart
from bakeoff.reports.contents import contents_of
from bakeoff.reports.document import environment_of
from bakeoff.reports.words import describe

LOOKS = {
    "background": "white",  # readable on a dark page too
    "font": "system-ui, Helvetica, Arial, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "legend": {"labelFontSize": 12, "labelLimit": 300, "symbolLimit": 0},
    "title": {"fontSize": 14, "subtitleFontSize": 11, "subtitleColor": "#555", "anchor": "start"},
    "padding": 12,
}


def picture(results: Path) -> str:
    """The first table of ratios, as SVG."""
    place = contents_of(bakeoff.open_results(results)).places[0]
    tables = (table for kind in place.kinds for table in kind.speed)
    table = next(table for table in tables if table.metric == "ratio")
    machine = dict(environment_of(place))
    axes = ("pattern", "direction", "heads", "head_dim", "batch", "dtype", "threads")
    title = {
        "text": "Time of attention against sequence length",
        "subtitle": [
            describe(table.fixed, axes),
            f"{machine['CPU']}, torch {machine['torch']}",
            "Below 1 is faster. Grey: the noise floor. Bars: 95% intervals.",
        ],
    }
    spec = {**chart(table), "width": 560, "title": title, "config": LOOKS}
    return str(vl_convert.vegalite_to_svg(json.dumps(spec)))


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(picture(Path(sys.argv[1])), encoding="utf-8")
