"""Deep stacks of one variant, at initialisation, and the state of each of their layers.

Everything is float64: a gradient that vanishes over 64 layers of sigmoids is far below the least
number of float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bakeoff.registry.binding import draw, resolve_options
from bakeoff.registry.module import module
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Activation, Attention, Connection
from bakeoff.suites.flow.initialisation import HE, Initialisation

__all__ = [
    "ActivationStack",
    "AttentionLayer",
    "AttentionStack",
    "ConnectionStack",
    "Stack",
    "States",
    "attention_weights",
    "gradient_norms",
]


@dataclass(frozen=True)
class States:
    """What flows through a stack of L layers, with its graph.

    Args:
        inputs: x.
        outputs: y_1 … y_L, what each layer puts out.
        pre_activations: h_1 … h_L, for a stack of activations: y_l = φ(h_l).
    """

    inputs: torch.Tensor
    outputs: tuple[torch.Tensor, ...]
    pre_activations: tuple[torch.Tensor, ...] = ()

    @property
    def nodes(self) -> tuple[torch.Tensor, ...]:
        """Where gradients are taken: pre-activations as in theory, else what layers put out."""
        return self.pre_activations or self.outputs


class Stack(nn.Module):
    """L layers of one variant; the three kinds differ in what a layer is."""

    layers: nn.ModuleList

    def states(self, x: torch.Tensor) -> States:
        """Run it and keep everything."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the last layer puts out."""
        return self.states(x).outputs[-1]


class ActivationStack(Stack):
    """h_l = W_l y_{l−1} + b_l, y_l = φ(h_l), y_0 = x (…, F).

    A gated activation halves its input: its h_l has twice the features.

    Args:
        variant: The activation.
        depth: L.
        features: F.
        initialisation: The distribution of weights and biases.
        generator: Where everything is drawn from.
        options: Options that differ from their defaults.

    Example:
        >>> import bakeoff
        >>> generator = torch.Generator().manual_seed(0)
        >>> stack = ActivationStack(bakeoff.load()["tanh"], 3, 8, HE, generator)
        >>> states = stack.states(torch.ones(4, 8, dtype=torch.float64))
        >>> len(states.outputs), torch.allclose(states.outputs[0], states.pre_activations[0].tanh())
        (3, True)
    """

    def __init__(
        self,
        variant: Activation,
        depth: int,
        features: int,
        initialisation: Initialisation,
        generator: torch.Generator,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        width = 2 * features if variant.gated else features
        self.layers = nn.ModuleList()
        self.activations = nn.ModuleList()
        for _ in range(depth):
            self.layers.append(_linear(features, width, initialisation, generator))
            self.activations.append(module(variant, width, options=options, generator=generator))
        self.double()

    def states(self, x: torch.Tensor) -> States:
        """Run it and keep pre-activations and outputs."""
        y, before, after = x, [], []
        for linear, activation in zip(self.layers, self.activations, strict=True):
            before.append(linear(y))
            y = activation(before[-1])
            after.append(y)
        return States(x, tuple(after), tuple(before))


class AttentionStack(Stack):
    """x_l = A(x_{l−1} W_q, x_{l−1} W_k, x_{l−1} W_v) W_o (+ x_{l−1} with a skip), x (B, N, H·D).

    All weights are N(0, 1/fan_in). What the variant takes as given (gates, a memory) is drawn once
    for each layer. There is no normalisation: it would hide what the variant does to the scale.

    Args:
        variant: The attention.
        depth: L.
        shape: Sizes of one call; self-attention, so that q_len is k_len.
        generator: Where everything is drawn from.
        skip: Whether x_{l−1} is added.
        causal: Whether a query sees only the past.
        options: Options that differ from their defaults.
    """

    def __init__(
        self,
        variant: Attention,
        depth: int,
        shape: Shape,
        generator: torch.Generator,
        *,
        skip: bool = False,
        causal: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            AttentionLayer(variant, shape, generator, skip, causal, options) for _ in range(depth)
        )
        self.double()

    def layer(self, index: int) -> AttentionLayer:
        """One of its layers, the first is 0."""
        found = self.layers[index]
        assert isinstance(found, AttentionLayer)
        return found

    def states(self, x: torch.Tensor) -> States:
        """Run it and keep what each layer puts out."""
        outputs: list[torch.Tensor] = []
        for layer in self.layers:
            outputs.append(layer(outputs[-1] if outputs else x))
        return States(x, tuple(outputs))


class AttentionLayer(nn.Module):
    """One layer of an :class:`AttentionStack`."""

    def __init__(
        self,
        variant: Attention,
        shape: Shape,
        generator: torch.Generator,
        skip: bool,
        causal: bool,
        options: Mapping[str, Any] | None,
    ) -> None:
        super().__init__()
        width = shape.heads * shape.head_dim
        self.shape, self.skip, self.causal = shape, skip, causal
        sizes = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
            shape.kv_heads * shape.value_dim,
        )
        self.projections = nn.ModuleList(_linear(width, s, LECUN, generator) for s in sizes)
        self.output = _linear(shape.heads * shape.value_dim, width, LECUN, generator)
        self.attention = module(variant, shape, options=options, generator=generator)
        given = draw(variant, "inputs", shape, generator, resolve_options(variant, options))
        for name, tensor in given.items():
            self.register_buffer(f"given_{name}", tensor)
        self.given_names = tuple(given)

    def queries_keys_values(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q (B, H, N, D), k (B, Hkv, N, D), v (B, Hkv, N, Dv) of x (B, N, H·D)."""
        heads = (self.shape.heads, self.shape.kv_heads, self.shape.kv_heads)
        q, k, v = (
            project(x).unflatten(-1, (count, -1)).transpose(1, 2)
            for project, count in zip(self.projections, heads, strict=True)
        )
        return q, k, v

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The variant with its parameters and what it takes as given, (B, H, N, Dv)."""
        given = {name: self._given(name, q.shape[0]) for name in self.given_names}
        grid = self.shape.grid
        o: torch.Tensor = self.attention(q, k, v, causal=self.causal, grid=grid, **given)
        return o

    def _given(self, name: str, batch: int) -> torch.Tensor:
        """What was drawn for one entry of a batch holds for all."""
        tensor: torch.Tensor = getattr(self, f"given_{name}")
        return tensor.expand(batch, *tensor.shape[1:]) if self.shape.batch == 1 else tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, N, H·D) to the same."""
        heads = self.attend(*self.queries_keys_values(x))
        y: torch.Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return x + y if self.skip else y


class ConnectionStack(Stack):
    """x_l = connection(x_{l−1}, branch_l) with branch(h) = W_2 ReLU(W_1 h), x (…, F).

    Args:
        variant: The connection.
        depth: L.
        features: F.
        generator: Where everything is drawn from.
        initialisation: Of the branch's weights.
        options: Options that differ from their defaults.
    """

    def __init__(
        self,
        variant: Connection,
        depth: int,
        features: int,
        generator: torch.Generator,
        *,
        initialisation: Initialisation = HE,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.branches = nn.ModuleList(), nn.ModuleList()
        for _ in range(depth):
            first, second = (
                _linear(features, features, initialisation, generator) for _ in range(2)
            )
            self.branches.append(nn.Sequential(first, nn.ReLU(), second))
            self.layers.append(module(variant, features, options=options, generator=generator))
        self.double()

    def states(self, x: torch.Tensor) -> States:
        """Run it and keep what each layer puts out, which later layers may ask for too."""
        outputs: list[torch.Tensor] = []
        for i, (layer, branch) in enumerate(zip(self.layers, self.branches, strict=True)):
            of, history = outputs[-1] if outputs else x, tuple(outputs)
            depth = len(self.layers)
            outputs.append(layer(of, branch, layer=i, depth=depth, history=history))
        return States(x, tuple(outputs))


def gradient_norms(states: States, cotangent: torch.Tensor) -> list[float]:
    """‖∂⟨y_L, g⟩ / ∂n_l‖ for each of the :attr:`States.nodes` n_1 … n_L.

    Weight gradients are a poorer sign: they are products of what comes from behind and from ahead,
    and in a linear stack the same for every layer, however small.

    Args:
        states: A run with its graph.
        cotangent: g, in the shape of y_L.
    """
    nodes = states.nodes
    found: Sequence[torch.Tensor | None] = torch.autograd.grad(
        states.outputs[-1], nodes, cotangent, allow_unused=True
    )
    return [0.0 if gradient is None else float(gradient.norm()) for gradient in found]


def attention_weights(layer: AttentionLayer, x: torch.Tensor) -> torch.Tensor:
    """A (B, H, N, N) with attend(q, k, v) = A v, from values that are unit rows.

    Args:
        layer: Of an attention whose output is a weighted mean of the values.
        x: What the layer is given, (B, N, H·D).
    """
    training = layer.training
    with torch.no_grad():
        q, k, _ = layer.eval().queries_keys_values(x)
        size = k.shape[2]
        rows = torch.eye(size, dtype=x.dtype).expand(*k.shape[:2], size, size)
        weights = layer.attend(q, k, rows)
    layer.train(training)
    return weights


#: LeCun et al. (1998): each output has the variance of the inputs.
LECUN = Initialisation("lecun", 1.0)


def _linear(
    fan_in: int, fan_out: int, initialisation: Initialisation, generator: torch.Generator
) -> nn.Linear:
    linear = nn.Linear(fan_in, fan_out, bias=initialisation.bias_variance > 0, device="meta")
    linear.weight = nn.Parameter(initialisation.weight(fan_out, fan_in, generator))
    if initialisation.bias_variance > 0:
        spread = math.sqrt(initialisation.bias_variance)
        bias = spread * torch.randn(fan_out, generator=generator, dtype=torch.float64)
        linear.bias = nn.Parameter(bias)
    return linear
