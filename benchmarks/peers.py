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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import bakeoff
from bakeoff import Case, Catalog, Shape
from bakeoff.registry.binding import takes
from bakeoff.reports.units import human, number
from bakeoff.suites.environment import environment
from bakeoff.suites.grids import grid_of
from bakeoff.suites.race import Lap, Race
from bakeoff.suites.statistics import Estimate, floor_of, median, median_ratio
from bakeoff.suites.tensors import arguments_for, why_not

HEADS, DIM = 4, 64
WIDTH = HEADS * DIM
#: |i − j| ≤ WINDOW.
WINDOW, FEATURES, LANDMARKS, RANK, BLOCK, LINKS, POINTS = 128, 256, 64, 128, 64, 3, 4
SDPA, TWIN = "SDPA, dense", "SDPA, dense, again"

Tensor = torch.Tensor


@dataclass(frozen=True)
class Call:
    """What is timed: a function of nothing, and the leaves whose gradients training takes."""

    output: Callable[[], Tensor]
    leaves: Sequence[Tensor]

    def timed(self, direction: str) -> Lap:
        """The lap for a race."""
        if direction == "forward":

            def forward() -> object:
                with torch.no_grad():
                    return self.output()

            return lambda repeats: forward

        def training() -> object:
            output = self.output()
            signs = torch.ones_like(output)
            # Deformable attention has no use for k.
            return torch.autograd.grad(output, self.leaves, signs, allow_unused=True)

        return lambda repeats: training


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


def heads(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (B, H, N, D), leaves."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(1, HEADS, n, DIM, generator=generator) for _ in range(3))
    q, k, v = (x.requires_grad_() for x in drawn)
    return q, k, v


def rows(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same numbers as rows of features (B, N, H·D), leaves."""
    q, k, v = (x.detach().transpose(1, 2).reshape(1, n, WIDTH).requires_grad_() for x in heads(n))
    return q, k, v


def of_heads(fn: Callable[[Tensor, Tensor, Tensor], Tensor], n: int, *more: Tensor) -> Call:
    """A call of a function of q, k and v."""
    q, k, v = heads(n)
    return Call(lambda: fn(q, k, v), (q, k, v, *more))


def of_layer(module: nn.Module, fn: Callable[[Tensor], Tensor], n: int) -> Call:
    """A call of a layer with its projections, on rows of features."""
    (x, _, _) = rows(n)
    return Call(lambda: fn(x), (x, *module.parameters()))


class Given(nn.Module):
    """In place of a projection: what it returns is given.

    Args:
        tensor: What to return.
        copied: Whether the caller changes it in place.
    """

    def __init__(self, tensor: Tensor, copied: bool = False) -> None:
        super().__init__()
        self.tensor, self.copied = [tensor], copied  # a list: it is no parameter of the module

    def forward(self, x: Tensor) -> Tensor:
        """The given tensor, whatever comes in."""
        (tensor,) = self.tensor
        return tensor.clone() if self.copied else tensor


def without_projections(module: nn.Module, n: int, names: Sequence[str], **more: Any) -> Call:
    """A layer whose projections return q, k and v; ``more`` goes to its forward."""
    given = rows(n)
    for name, tensor in zip(names, given, strict=True):
        module.add_module(name, Given(tensor))
    rest = [p for p in module.parameters() if p.requires_grad]

    def output() -> Tensor:
        found = module(given[0], **more)
        return found[0] if isinstance(found, tuple) else found

    return Call(output, (*given, *rest))


# Peers


def sdpa(n: int, causal: bool = False) -> Call:
    return of_heads(partial(F.scaled_dot_product_attention, is_causal=causal), n)


def sdpa_with_band(n: int) -> Call:
    place = torch.arange(n)
    band = (place[:, None] - place).abs() <= WINDOW
    return of_heads(partial(F.scaled_dot_product_attention, attn_mask=band), n)


def flex(n: int) -> Call:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i - j).abs() <= WINDOW

    mask = create_block_mask(near, None, None, n, n, device="cpu")
    compiled = torch.compile(flex_attention)
    q, k, v = (x.detach() for x in heads(n))
    return Call(lambda: compiled(q, k, v, block_mask=mask), ())


def local_attention(n: int, causal: bool = False) -> Call:
    from local_attention import LocalAttention

    module = LocalAttention(
        window_size=WINDOW, causal=causal, look_backward=1, look_forward=0 if causal else 1,
        exact_windowsize=True, autopad=True, use_rotary_pos_emb=False,
    )  # fmt: skip
    return of_heads(module, n)


def _longformer(n: int) -> nn.Module:
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = SimpleNamespace(
        hidden_size=WIDTH, num_attention_heads=HEADS, attention_window=[2 * WINDOW],
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return LongformerSelfAttention(config, 0)


def longformer_window(n: int) -> Call:
    module = _longformer(n)
    for name in ("query_global", "key_global", "value_global"):
        module.add_module(name, nn.Identity())
    never = torch.zeros(1, n, dtype=torch.bool)
    call = without_projections(
        module, n, ("query", "key", "value"), attention_mask=torch.zeros(1, n),
        is_index_masked=never, is_index_global_attn=never, is_global_attn=False,
    )  # fmt: skip
    module.add_module("query", Given(call.leaves[0], copied=True))  # it is scaled in place
    return call


def longformer_layer(n: int) -> Call:
    module = _longformer(n)
    mask, never = torch.zeros(1, n), torch.zeros(1, n, dtype=torch.bool)
    mask[:, 0] = 10000.0
    given = {
        "attention_mask": mask, "is_index_masked": never, "is_index_global_attn": mask > 0,
        "is_global_attn": True,
    }  # fmt: skip
    return of_layer(module, lambda x: module(x, **given)[0], n)


def performer(n: int, causal: bool = False) -> Call:
    from performer_pytorch import FastAttention

    return of_heads(FastAttention(DIM, nb_features=FEATURES, causal=causal), n)


def linear(n: int, causal: bool = False) -> Call:
    from performer_pytorch.performer_pytorch import (
        causal_linear_attention_noncuda,
        linear_attention,
    )

    scan = causal_linear_attention_noncuda if causal else linear_attention
    return of_heads(lambda q, k, v: scan(F.elu(q) + 1, F.elu(k) + 1, v), n)


def nystrom_attention(n: int) -> Call:
    from nystrom_attention import NystromAttention

    module = NystromAttention(WIDTH, DIM, HEADS, num_landmarks=LANDMARKS, residual=False)
    module.to_out = nn.Identity()
    q, k, v = rows(n)
    both = torch.cat([q, k, v], -1).detach().requires_grad_()
    module.to_qkv = Given(both)
    return Call(lambda: module(q), (both,))


def nystromformer(n: int) -> Call:
    from transformers.models.nystromformer.modeling_nystromformer import (
        NystromformerSelfAttention,
    )

    config = SimpleNamespace(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_landmarks=LANDMARKS,
        segment_means_seq_len=n, conv_kernel_size=None, inv_coeff_init_option=False,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return without_projections(NystromformerSelfAttention(config), n, ("query", "key", "value"))


def linformer(n: int) -> Call:
    from linformer import LinformerSelfAttention

    module = LinformerSelfAttention(WIDTH, n, k=RANK, heads=HEADS)
    module.to_out = nn.Identity()
    return without_projections(module, n, ("to_q", "to_k", "to_v"))


def big_bird(n: int) -> Call:
    from transformers.models.big_bird.modeling_big_bird import (
        BigBirdBlockSparseAttention,
        BigBirdModel,
    )

    config = SimpleNamespace(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_random_blocks=LINKS, block_size=BLOCK,
        use_bias=True, max_position_embeddings=max(4096, n),
    )  # fmt: skip
    blocked, band, before, after = BigBirdModel.create_masks_for_block_sparse_attn(
        torch.ones(1, n), BLOCK
    )
    # Its random blocks are drawn when training only; else each is the first.
    module = BigBirdBlockSparseAttention(config, seed=0).train()
    return without_projections(
        module, n, ("query", "key", "value"), band_mask=band, from_mask=before, to_mask=after,
        from_blocked_mask=blocked, to_blocked_mask=blocked,
    )  # fmt: skip


def deformable_detr(n: int) -> Call:
    from transformers.models.deformable_detr.modeling_deformable_detr import (
        DeformableDetrMultiscaleDeformableAttention,
    )

    grid = grid_of("pyramid", n)
    assert grid is not None
    config = SimpleNamespace(
        d_model=WIDTH, num_feature_levels=len(grid), disable_custom_kernels=True
    )
    module = DeformableDetrMultiscaleDeformableAttention(config, HEADS, POINTS)
    module.value_proj = module.output_proj = nn.Identity()
    keys = sum(height * width for height, width in grid)
    x = torch.randn(1, keys, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    given = {
        "encoder_hidden_states": x,
        "reference_points": torch.rand(1, keys, len(grid), 2),
        "spatial_shapes": torch.tensor(grid),
        "spatial_shapes_list": list(grid),
    }
    return Call(lambda: module(x, **given)[0], (x, *module.parameters()))


def torch_layer(n: int) -> Call:
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    return of_layer(module, lambda x: module(x, x, x, need_weights=False)[0], n)


def x_transformers(n: int) -> Call:
    from x_transformers.x_transformers import Attention

    module = Attention(WIDTH, dim_head=DIM, heads=HEADS, flash=True)

    def output(x: Tensor) -> Tensor:
        found = module(x)
        return found[0] if isinstance(found, tuple) else found

    (x, _, _) = rows(n)
    used = torch.autograd.grad(
        output(x[:, :64]).sum(), list(module.parameters()), allow_unused=True
    )
    learned = [p for p, g in zip(module.parameters(), used, strict=True) if g is not None]
    return Call(lambda: output(x), (x, *learned))


MECHANISMS = (
    Mechanism(
        "multi_head",
        (
            Peer("nn.MultiheadAttention", torch_layer, "layer"),
            Peer("x-transformers, flash", x_transformers, "layer"),
        ),
        times="layer",
    ),
    Mechanism(
        "sliding_window",
        (
            Peer("local-attention", local_attention),
            Peer("transformers Longformer, no global token", longformer_window),
            Peer("FlexAttention", flex, directions=("forward",)),
            Peer("SDPA with a band as mask", sdpa_with_band),
        ),
        {"window": WINDOW},
    ),
    Mechanism(
        "sliding_window",
        (Peer("local-attention", partial(local_attention, causal=True)),),
        {"window": WINDOW},
        "causal_self",
    ),
    Mechanism(
        "longformer",
        (Peer("transformers Longformer", longformer_layer, "layer"),),
        {"window": WINDOW, "global_tokens": 1},
        times="layer",
    ),
    Mechanism(
        "bigbird",
        (Peer("transformers BigBird", big_bird),),
        {"block_size": BLOCK, "random_blocks": LINKS},
    ),
    Mechanism("performer", (Peer("performer-pytorch", performer),), {"features": FEATURES}),
    Mechanism(
        "performer",
        (Peer("performer-pytorch", partial(performer, causal=True), most=4096),),
        {"features": FEATURES},
        "causal_self",
    ),
    Mechanism(
        "nystromformer",
        (
            Peer("nystrom-attention", nystrom_attention),
            Peer("transformers Nystromformer", nystromformer),
        ),
        {"landmarks": LANDMARKS},
    ),
    Mechanism("linformer", (Peer("linformer", linformer),), {"rank": RANK}),
    Mechanism("linear_attention", (Peer("performer-pytorch, elu + 1", linear),)),
    Mechanism(
        "linear_attention",
        (Peer("performer-pytorch, elu + 1", partial(linear, causal=True), most=4096),),
        pattern="causal_self",
    ),
    Mechanism(
        "deformable",
        (Peer("transformers DeformableDetr", deformable_detr),),
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
    baseline = sdpa(n, causal).timed(direction)
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


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
