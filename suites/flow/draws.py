"""One draw of a stack, of each kind: build it, run it, and measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from bakeoff.registry.shapes import Case, FeatureShape
from bakeoff.registry.variants import Activation, Attention, Connection
from bakeoff.suites.flow.initialisation import Initialisation
from bakeoff.suites.flow.measures import (
    Spectrum,
    attention_entropy,
    dead_fraction,
    grad_norm_exponent,
    grad_norm_ratio,
    jacobian,
    rank_residual,
    saturated_fraction,
    spectrum,
)
from bakeoff.suites.flow.quadrature import Curve
from bakeoff.suites.flow.samples import Sample
from bakeoff.suites.flow.stacks import (
    ActivationStack,
    AttentionStack,
    ConnectionStack,
    Stack,
    States,
    attention_weights,
    gradient_norms,
)
from bakeoff.suites.flow.training import trained
from bakeoff.suites.grids import grid_of

__all__ = ["activation_sample", "attention_sample", "connection_sample", "reach_sample"]

#: Added to a seed for data and cotangents, which are the same for all variants and independent of
#: the weights: torch's generator keeps 32 bits of a seed, and equal ones draw equal numbers.
SHARED = 2**31
#: The Jacobian of an attention has (N·H·D)² entries: it is taken of a small stack.
SMALL = {"q_len": 8, "k_len": 8, "head_dim": 4, "value_dim": 4}
SMALL_GRID = ((2, 4),)


@contextmanager
def _drawing(seed: int) -> Iterator[torch.Generator]:
    """A generator for a stack; noise in training comes from torch's own, seeded too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def _normal(seed: int, *sizes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SHARED + seed)
    return torch.randn(*sizes, generator=generator, dtype=torch.float64)


def activation_sample(
    variant: Activation,
    case: Case,
    depth: int,
    initialisation: Initialisation,
    seed: int,
    curve: Curve | None,
    steps: int,
) -> Sample:
    """One stack of activations; ``curve`` where it is elementwise, ``steps`` of training."""
    shape = case.shape
    assert isinstance(shape, FeatureShape)
    x = _normal(seed, shape.tokens, shape.features)
    with _drawing(seed) as generator:
        stack = ActivationStack(
            variant, depth, shape.features, initialisation, generator, case.options
        )
        states = stack.states(x)
        values, profiles = _flow(states, seed)
        values["chi"] = math.exp(min(700.0, 2 * grad_norm_exponent(profiles["grad_norm"])))
        profiles["pre_activation_variance"] = _each(states.pre_activations, _second_moment)
        if curve:
            values["saturated_fraction"] = saturated_fraction(states.pre_activations, curve)
        values |= _spectrum(stack, x[0])
        values["dead_fraction"] = dead_fraction(states.outputs)
        if steps:
            outputs = trained(stack, x, _normal(seed + 1, *x.shape), steps).states(x).outputs
            diverged = not outputs[-1].isfinite().all()
            values["dead_fraction_trained"] = math.nan if diverged else dead_fraction(outputs)
    return Sample(values, profiles)


def attention_sample(variant: Attention, case: Case, depth: int, skip: bool, seed: int) -> Sample:
    """One stack of attentions."""
    shape = case.attention_shape
    settings: dict[str, Any] = {"skip": skip, "causal": case.causal, "options": case.options}
    x = _normal(seed, shape.batch, shape.q_len, shape.heads * shape.head_dim)
    with _drawing(seed) as generator:
        stack = AttentionStack(variant, depth, shape, generator, **settings)
        states = stack.states(x)
        values, profiles = _flow(states, seed)
        profiles["rank_residual"] = _each(states.outputs, rank_residual)
        if variant.declared("row_stochastic"):
            inputs = (x, *states.outputs[:-1])
            weights = (attention_weights(stack.layer(i), of) for i, of in enumerate(inputs))
            profiles["attention_entropy"] = _each(weights, attention_entropy)
        small = replace(shape, **SMALL, batch=1, grid=SMALL_GRID if shape.grid else None)
        tiny = AttentionStack(variant, depth, small, generator, **settings)
        values |= _spectrum(tiny, _normal(seed, small.q_len, small.heads * small.head_dim))
    return Sample(values, profiles)


def connection_sample(variant: Connection, case: Case, depth: int, seed: int) -> Sample:
    """One stack of connections."""
    shape = case.shape
    assert isinstance(shape, FeatureShape)
    x = _normal(seed, shape.tokens, shape.features)
    with _drawing(seed) as generator:
        stack = ConnectionStack(variant, depth, shape.features, generator, options=case.options)
        values, profiles = _flow(stack.states(x), seed)
        values |= _spectrum(stack, x[0])
    return Sample(values, profiles)


def reach_sample(variant: Attention, case: Case, lengths: tuple[int, ...], seed: int) -> Sample:
    """How much of an output's gradient reaches q, k and v of one call, and how that goes with N.

    ``grad_to_q`` is ‖∂⟨o, g⟩/∂q‖ ÷ ‖g‖ at the largest N with q, k, v and g ~ N(0, 1);
    ``grad_to_q_exponent`` is the b of a fit ∝ N^b.
    """
    shape = case.attention_shape
    found: dict[str, list[float]] = {name: [] for name in "qkv"}
    for n in lengths:
        grid = grid_of("square", n) if shape.grid else None
        sized = replace(shape, q_len=n, k_len=n, grid=grid)
        with _drawing(seed) as generator:
            layer = AttentionStack(
                variant, 1, sized, generator, causal=case.causal, options=case.options
            ).layer(0)
            q, k, v = (
                _normal(seed + i, sized.batch, heads, n, size).requires_grad_()
                for i, (heads, size) in enumerate(
                    (
                        (sized.heads, sized.head_dim),
                        (sized.kv_heads, sized.head_dim),
                        (sized.kv_heads, sized.value_dim),
                    )
                )
            )
            o = layer.attend(q, k, v)
            g = _normal(seed + 3, *o.shape)
            gradients = torch.autograd.grad(o, (q, k, v), g, allow_unused=True)
        for name, gradient in zip("qkv", gradients, strict=True):
            norm = 0.0 if gradient is None else float(gradient.norm())
            found[name].append(norm / float(g.norm()))
    values = {}
    for name, norms in found.items():
        values[f"grad_to_{name}"] = norms[-1]
        if min(norms) > 0 and len(lengths) > 1:
            values[f"grad_to_{name}_exponent"] = _slope(lengths, norms)
    return Sample(values)


def _flow(states: States, seed: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """What is measured in stacks of every kind."""
    last = states.outputs[-1]
    norms = gradient_norms(states, _normal(seed + 2, *last.shape))
    values = {
        "grad_norm_ratio": grad_norm_ratio(norms),
        "grad_norm_exponent": grad_norm_exponent(norms),
    }
    profiles = {
        "grad_norm": norms,
        "activation_mean": _each(states.outputs, lambda y: float(y.mean())),
        "activation_variance": _each(states.outputs, lambda y: float(y.var())),
    }
    return values, profiles


def _spectrum(stack: Stack, x: torch.Tensor) -> dict[str, float]:
    """Of the stack as it is evaluated: noise would differ from copy to copy."""
    matrix = jacobian(stack.eval(), x)
    stack.train()
    found = spectrum(matrix) if matrix.isfinite().all() else Spectrum(*[math.nan] * 4)
    return {
        "jacobian_largest": found.largest,
        "jacobian_smallest": found.smallest,
        "jacobian_mean": found.mean,
        "jacobian_variance": found.variance,
    }


def _second_moment(h: torch.Tensor) -> float:
    return float(h.square().mean())


def _each(tensors: Iterable[torch.Tensor], of: Callable[[torch.Tensor], float]) -> list[float]:
    return [of(tensor.detach()) for tensor in tensors]


def _slope(lengths: tuple[int, ...], norms: list[float]) -> float:
    logs = torch.tensor(
        [[math.log(n), math.log(norm)] for n, norm in zip(lengths, norms, strict=True)]
    )
    x, y = (logs - logs.mean(0)).T
    return float((x * y).sum() / x.square().sum())
