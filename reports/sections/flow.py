"""Gradient flow with depth: initialisations, and stacks of activations, attentions, connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bakeoff.reports.blocks import Block, Code, Figure, Grid, Heading, Items, Text, names_of
from bakeoff.reports.failures import failures_of, refusals_of
from bakeoff.reports.flow import Stacked, initialisations_of, reaches_of, stacks_of
from bakeoff.reports.flow_charts import by_layer, ratios
from bakeoff.reports.initialisations import LEGEND, initialisation_grid
from bakeoff.reports.rows import Row, plain
from bakeoff.reports.section import Section
from bakeoff.reports.words import plural

__all__ = ["SECTION"]

CHECKS = ("flow", "reach", "initialisation")
_LEGEND = (
    "Stacks at initialisation, float64, means over {} of weights and data. Ratio: the norm of the "
    "gradient at the first layer ÷ at the last, 1 where it arrives undiminished; for activations "
    "at pre-activations, for others at what layers put out. Per layer: its root over the layers "
    "between. JJᵀ: mean and variance of the squared singular values of the Jacobian of the whole "
    "stack. >f64: a value left float64. The results hold intervals, and every layer."
)
_ACTIVATIONS = (
    "χ: the growth of the squared gradient's norm for each layer, measured and by mean-field "
    "theory. q: the second moment of the last pre-activations, measured ÷ by theory. Saturated: "
    "slope below 5% of the steepest. Dead: units that are zero on all data, at the start and after "
    "a few steps of training."
)
_ATTENTION = (
    "Rank: what is left of the last layer's rows beside their mean, ‖X − 1x̄ᵀ‖ ÷ ‖X‖; 0 where all "
    "positions have become alike. Entropy: of the last layer's weights, in nats, where rows are "
    "distributions. There is no normalisation."
)
_REACH = (
    "How much of a random gradient at the output reaches q, k and v of one call, ‖∂⟨o, g⟩/∂q‖ ÷ "
    "‖g‖ at N = {}, and b of its growth N^b over the lengths before."
)

#: Headers with metrics.
_BOTH = {"ratio": "grad_norm_ratio", "per\nlayer": "per_layer"}
_JACOBIAN = {"JJᵀ\nmean": "jacobian_mean", "JJᵀ\nvariance": "jacobian_variance"}
_OF_ACTIVATIONS = {
    "ratio": "grad_norm_ratio",
    "χ": "chi",
    "χ\ntheory": "chi_theory",
    "q ÷\ntheory": "q_map_ratio",
    "satu-\nrated": "saturated_fraction",
    "dead": "dead_fraction",
    "dead\ntrained": "dead_fraction_trained",
    **_JACOBIAN,
}
_OF_ATTENTIONS = {
    **_BOTH,
    "rank": "rank_residual",
    "entropy": "attention_entropy",
    "output\nvariance": "activation_variance",
    **_JACOBIAN,
}
_OF_CONNECTIONS = {**_BOTH, "output\nvariance": "activation_variance", **_JACOBIAN}


def _blocks(rows: Sequence[Row], wrong: Mapping[str, str]) -> Iterator[Block]:
    ranked = [row for row in rows if row.label not in wrong]
    table = initialisations_of(ranked)
    if table:
        yield Heading(3, "Initialisation of activations")
        yield Text((LEGEND,))
        yield initialisation_grid(table)
    found = stacks_of(ranked)
    if found:
        draws = sorted({stack.draws for stack in found})
        told = " or ".join(map(str, draws))
        yield Text(
            (_LEGEND.format(plural(draws[0], "draw") if len(draws) == 1 else f"{told} draws"),)
        )
    for kind, blocks in (
        ("activation", _activations),
        ("attention", _attentions),
        ("connection", _connections),
    ):
        of_kind = [stack for stack in found if stack.kind == kind]
        if of_kind:
            yield from blocks(of_kind)
    yield from _reach(ranked)
    yield from _left_out(rows, wrong)


def _activations(stacks: Sequence[Stacked]) -> Iterator[Block]:
    yield Heading(3, "Stacks of activations")
    yield Text((_ACTIVATIONS,))
    for heading, group, deepest in _by_setting(stacks):
        yield heading
        yield Figure(ratios(deepest))
        yield _grid(deepest, _OF_ACTIVATIONS)
        yield from _over_depth(group)


def _attentions(stacks: Sequence[Stacked]) -> Iterator[Block]:
    yield Heading(3, "Stacks of attentions")
    yield Text((_ATTENTION,))
    for heading, group, deepest in _by_setting(stacks):
        yield heading
        yield _grid(deepest, _OF_ATTENTIONS)
        yield from _over_depth(group)


def _connections(stacks: Sequence[Stacked]) -> Iterator[Block]:
    yield Heading(3, "Stacks of connections")
    for heading, group, deepest in _by_setting(stacks):
        yield heading
        yield Figure(by_layer(deepest))
        yield _grid(deepest, _OF_CONNECTIONS)
        yield from _over_depth(group)


def _by_setting(
    stacks: Sequence[Stacked],
) -> Iterator[tuple[Heading, list[Stacked], list[Stacked]]]:
    """For each setting a heading, its stacks, and the deepest of them in order."""
    for setting in dict.fromkeys(stack.setting for stack in stacks):
        group = [stack for stack in stacks if stack.setting == setting]
        depth = max(stack.depth for stack in group)
        deepest = _sorted(stack for stack in group if stack.depth == depth)
        told = ", ".join(filter(None, (setting, plural(depth, "layer"))))
        yield Heading(4, told[0].upper() + told[1:]), group, deepest


def _sorted(stacks: Iterable[Stacked]) -> list[Stacked]:
    """Nearest to undiminished first; what has no number after these, and controls last."""
    return sorted(stacks, key=lambda stack: (stack.control, stack.distance))


def _grid(stacks: Sequence[Stacked], columns: Mapping[str, str]) -> Grid:
    rows = tuple((Code(s.name), *(s.shown(metric) for metric in columns.values())) for s in stacks)
    return Grid((stacks[0].kind, *columns), rows, controls=_controls(stacks))


def _controls(stacks: Iterable[Stacked]) -> tuple[str, ...]:
    return tuple({stack.name: None for stack in stacks if stack.control})


def _over_depth(group: Sequence[Stacked]) -> Iterator[Block]:
    """The ratio at each depth, where there are several."""
    depths = sorted({stack.depth for stack in group})
    if len(depths) < 2:
        return
    by_name: dict[str, dict[int, str]] = {}
    for stack in _sorted(group):
        by_name.setdefault(stack.name, {})[stack.depth] = stack.shown("grad_norm_ratio")
    yield Grid(
        ("ratio at depth", *map(str, depths)),
        tuple((Code(n), *(at.get(d, "-") for d in depths)) for n, at in by_name.items()),
        title="The ratio at each depth",
        controls=_controls(group),
    )


def _reach(rows: Sequence[Row]) -> Iterator[Block]:
    found = reaches_of(rows)
    if not found:
        return
    yield Heading(3, "Gradients of q, k and v against N")
    lengths = sorted({reach.length for reach in found})
    yield Text((_REACH.format(", ".join(map(str, lengths))),))
    yield Grid(
        ("attention", "q", "q: b", "k", "k: b", "v", "v: b"),
        tuple((Code(reach.name), *reach.shown) for reach in found),
    )


def _left_out(rows: Sequence[Row], wrong: Mapping[str, str]) -> Iterator[Block]:
    labels = {row.label for row in rows if row.label in wrong}
    if labels:
        yield Text(("Left out, wrong: ", *names_of(sorted(labels)), "."))
    failed = [row for row in rows if row.failed]
    if failed:
        yield Heading(3, f"Failures of stacks ({plural(len(failed), 'row')})")
        yield Items(
            tuple(
                (Code(f.label), f" {f.status}: {f.what}, {f.where}: ", Code(f.reason))
                for f in failures_of(failed)
            )
        )
    refused = [row for row in rows if row.status == "unsupported"]
    if refused:
        yield Heading(3, f"Stacks that are not supported ({plural(len(refused), 'row')})")
        yield Items(
            tuple(
                (
                    Code(refusal.reason),
                    f", {plural(refusal.cells, 'row')}: ",
                    *names_of(refusal.labels),
                )
                for refusal in refusals_of(refused)
            )
        )


def _takes(row: Row) -> bool:
    return row.axes["suite"] == "gradient" and plain(row.axes["extra"]).get("check") in CHECKS


SECTION = Section("Gradient flow with depth", 10, _takes, _blocks)
