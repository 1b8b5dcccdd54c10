"""Our forwards against what a user would pick instead, side by side: a Markdown table.

    python -m pip install -c constraints.txt -e ".[peers]"
    OMP_NUM_THREADS=1 python benchmarks/peers.py --lengths 1024,4096,16384 --budget 30 > table.md

Each mechanism is one race at each length and direction, on the CPU with one thread, in float32, B1
H4 D64, with torch's fused attention as the baseline. What is not registered or not installed, and
what can't run, is left out with a message on standard error. A row says what is timed: the *core*
takes q, k and v; a *layer* takes rows of features and has projections. Peers that come as layers
are timed as cores by handing them q, k and v in place of what their projections return.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import other_attentions as others
import torch
from other_attentions import (
    BLOCK,
    DIM,
    FEATURES,
    HEADS,
    LANDMARKS,
    LINKS,
    POINTS,
    RANK,
    WINDOW,
    Call,
    tell,
)

import bakeoff
from bakeoff import Case, Catalog, Shape
from bakeoff.registry.binding import takes
from bakeoff.reports.units import human, number
from bakeoff.suites.environment import environment
from bakeoff.suites.grids import grid_of
from bakeoff.suites.race import Lap, Race
from bakeoff.suites.statistics import Estimate, floor_of, median, median_ratio
from bakeoff.suites.tensors import arguments_for, why_not

SDPA, TWIN = "SDPA, dense", "SDPA, dense, again"


@dataclass(frozen=True)
class Peer:
    """Somebody else's implementation.

    Args:
        name: As the table shows it.
        make: From the length, the call; it raises ImportError where the package
            is missing.
        times: ``core`` or ``layer``.
        directions: Those that it can run.
        most: The largest length that it is tried on.
    """

    name: str
    make: Callable[[int], Call]
    times: str = "core"
    directions: tuple[str, ...] = ("forward", "training")
    most: int = 16384


@dataclass(frozen=True)
class Mechanism:
    """Ours and its peers, which compute the same or nearly so.

    Args:
        variant: Name of ours.
        peers: The others.
        options: Of ours.
        pattern: Of ours.
        grid: The name of a grid, where the mechanism needs one.
        times: What of ours is timed.
    """

    variant: str
    peers: tuple[Peer, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    pattern: str = "self"
    grid: str = "none"
    times: str = "core"

    @property
    def title(self) -> str:
        """The variant, its options and whether it is causal."""
        told = [f"{name}={value}" for name, value in self.options.items()]
        told += ["causal"] * self.pattern.startswith("causal")
        return " ".join([self.variant, *told])


MECHANISMS = (
    Mechanism(
        "multi_head",
        (
            Peer("nn.MultiheadAttention", others.torch_layer, "layer"),
            Peer("x-transformers, flash", others.x_transformers, "layer"),
        ),
        times="layer",
    ),
    Mechanism(
        "sliding_window",
        (
            Peer("local-attention", others.local_attention),
            Peer("transformers Longformer, no global token", others.longformer_window),
            Peer("FlexAttention", others.flex, directions=("forward",)),
            Peer("SDPA with a band as mask", others.sdpa_with_band),
        ),
        {"window": WINDOW},
    ),
    Mechanism(
        "sliding_window",
        (Peer("local-attention", partial(others.local_attention, causal=True)),),
        {"window": WINDOW},
        "causal_self",
    ),
    Mechanism(
        "longformer",
        (Peer("transformers Longformer", others.longformer_layer, "layer"),),
        {"window": WINDOW, "global_tokens": 1},
        times="layer",
    ),
    Mechanism(
        "bigbird",
        (Peer("transformers BigBird", others.big_bird),),
        {"block_size": BLOCK, "random_blocks": LINKS},
    ),
    Mechanism("performer", (Peer("performer-pytorch", others.performer),), {"features": FEATURES}),
    Mechanism(
        "performer",
        (Peer("performer-pytorch", partial(others.performer, causal=True), most=4096),),
        {"features": FEATURES},
        "causal_self",
    ),
    Mechanism(
        "nystromformer",
        (
            Peer("nystrom-attention", others.nystrom_attention),
            Peer("transformers Nystromformer", others.nystromformer),
        ),
        {"landmarks": LANDMARKS},
    ),
    Mechanism("linformer", (Peer("linformer", others.linformer),), {"rank": RANK}),
    Mechanism("linear_attention", (Peer("performer-pytorch, elu + 1", others.linear),)),
    Mechanism(
        "linear_attention",
        (Peer("performer-pytorch, elu + 1", partial(others.linear, causal=True), most=4096),),
        pattern="causal_self",
    ),
    Mechanism(
        "deformable",
        (Peer("transformers DeformableDetr", others.deformable_detr),),
        {"points": POINTS},
        grid="pyramid",
    ),
)


def ours(
    catalog: Catalog, mechanism: Mechanism, n: int, direction: str
) -> Iterator[tuple[str, Call]]:
    """Every forward of the variant but the reference, by name."""
    variant = catalog[mechanism.variant]
    grid = grid_of(mechanism.grid, n) if takes(variant, "grid") else None
    length = sum(height * width for height, width in grid) if grid else n
    case = Case(
        kind="attention",
        shape=Shape(1, HEADS, HEADS, length, length, DIM, DIM, grid),
        pattern=mechanism.pattern,
        options={**variant.options, **mechanism.options},
        direction=direction,
    )
    for name in variant.forwards:
        reason = why_not(variant, name, case)
        if name == "reference":
            continue
        if reason:
            tell(f"{mechanism.title}, {name}: {reason}")
            continue
        arguments = arguments_for(variant, case)
        arguments = arguments.requiring_grad() if direction == "training" else arguments
        fn = variant.forward(name).fn
        yield (
            f"bakeoff {name}",
            Call(partial(arguments.call, fn), list(arguments.leaves().values())),
        )


@dataclass(frozen=True)
class Row:
    """One rival of one race: its time, and its ratios to dense attention and to ours."""

    rival: str
    times: str
    seconds: Estimate
    to_sdpa: Estimate
    to_ours: Estimate | None


def race(
    catalog: Catalog, mechanism: Mechanism, n: int, direction: str, budget: float
) -> list[Row]:
    """Ours first, then the peers; nothing where ours is not registered."""
    causal = mechanism.pattern.startswith("causal")
    laps: dict[str, Lap] = {}
    times: dict[str, str] = {}
    for name, call in ours(catalog, mechanism, n, direction):
        laps[name], times[name] = call.timed(direction), mechanism.times
    if not laps:
        return []
    first = next(iter(laps))
    for peer in mechanism.peers:
        if direction not in peer.directions or n > peer.most:
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the table alone goes to standard output
                lap = peer.make(n).timed(direction)
                lap(1)()
        except Exception as error:  # whatever a peer raises costs its own row only
            tell(f"{mechanism.title}, {peer.name}, N = {n}: {type(error).__name__}: {error}")
            continue
        laps[peer.name], times[peer.name] = lap, peer.times
    baseline = others.sdpa(n, causal).timed(direction)
    laps |= {SDPA: baseline, TWIN: baseline}
    running = Race(laps, SDPA, steady=(TWIN,), budget=budget)
    running.run()
    floor = floor_of(median_ratio(*running.paired(TWIN)))
    tell(f"{mechanism.title}, {direction}, N = {n}: noise floor {number(floor)}")
    return [
        Row(
            name,
            times.get(name, "core"),
            median(running.paired(name)[0]),
            median_ratio(*running.paired(name)),
            None if name == first else median_ratio(*running.paired(name, first)),
        )
        for name in laps
        if name != TWIN
    ]


def heading() -> Iterator[str]:
    """The environment, what is timed, and the head of the table."""
    shown = {name: value for name, value in environment().items() if value not in ("", {})}
    yield "; ".join(f"{name} {value}" for name, value in shown.items())
    yield "\nPeers: " + ", ".join(versions()) + "."
    yield (
        f"\nfloat32, batch 1, {HEADS} heads of {DIM}, one thread. Brackets hold 95% intervals of "
        "the ratio; ÷ ours above 1 is slower than the first forward of ours in the race.\n"
    )
    yield "| mechanism | rival | times | N | direction | time | ÷ SDPA | ÷ ours |"
    yield "|" + "---|" * 3 + "--:|---|" + "--:|" * 3


def table_row(title: str, n: int, direction: str, row: Row) -> str:
    """One rival of one race."""
    cells = (title, row.rival, row.times, str(n), direction, human(row.seconds.value, "s"),
             _ratio(row.to_sdpa), _ratio(row.to_ours))  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _ratio(ratio: Estimate | None) -> str:
    if ratio is None:
        return "1"
    return f"{number(ratio.value)} [{number(ratio.low)}, {number(ratio.high)}]"


def versions() -> Iterator[str]:
    """Installed peers with their versions."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("local-attention", "performer-pytorch", "nystrom-attention", "linformer",
                 "x-transformers", "transformers"):  # fmt: skip
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            tell(f"{name} is not installed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="1024,4096,16384")
    parser.add_argument("--directions", default="forward,training")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds for each race")
    parser.add_argument("--only", default="", help="names of variants, with commas between them")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
    torch.set_num_threads(1)
    catalog = bakeoff.load(entry_points=False, pyproject=False)
    wanted = [name for name in chosen.only.split(",") if name]
    for line in heading():
        print(line, flush=True)
    for mechanism in MECHANISMS:
        if wanted and mechanism.variant not in wanted:
            continue
        if mechanism.variant not in catalog:
            tell(f"{mechanism.variant} is not registered")
            continue
        for n in map(int, chosen.lengths.split(",")):
            for direction in chosen.directions.split(","):
                # As they come, so that a race that is stopped costs itself alone.
                for row in race(catalog, mechanism, n, direction, chosen.budget):
                    print(table_row(mechanism.title, n, direction, row), flush=True)


if __name__ == "__main__":
    main()
