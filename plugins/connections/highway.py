"""Highway connection (Srivastava et al., 2015, section 2, equation 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import Connection, Metadata, Paper, hookimpl
from bakeoff.registry.layout import pack_rows

Branch = Callable[[torch.Tensor], torch.Tensor]


def reference(
    x: torch.Tensor,
    branch: Branch,
    *,
    w_gate: torch.Tensor,  # (F, F)
    b_gate: torch.Tensor,  # (F,)
    gate_bias: float,
) -> torch.Tensor:
    """T(x) · F(x) + (1 − T(x)) · x with T(x) = sigmoid(W x + b)."""
    gate = torch.sigmoid(pack_rows(x) @ pack_rows(w_gate.T) + b_gate)
    return gate * branch(x) + (1 - gate) * x


def fused(
    x: torch.Tensor,
    branch: Branch,
    *,
    w_gate: torch.Tensor,
    b_gate: torch.Tensor,
    gate_bias: float,
) -> torch.Tensor:
    """The mixture in one pass."""
    gate = F.linear(pack_rows(x), pack_rows(w_gate), b_gate).sigmoid()
    return torch.lerp(x, branch(x), gate)


def parameters(
    features: int, generator: torch.Generator | None, gate_bias: float
) -> Mapping[str, torch.Tensor]:
    """A negative bias: at first nearly all is carried (section 2.2)."""
    weight = torch.empty(features, features)
    nn.init.xavier_uniform_(weight, generator=generator)
    return {
        "w_gate": nn.Parameter(weight),
        "b_gate": nn.Parameter(torch.full((features,), gate_bias)),
    }


@hookimpl
def bakeoff_variants() -> Iterable[Connection]:
    """Highway connection."""
    yield Connection(
        "highway",
        forwards={"reference": reference, "torch": fused},
        options={"gate_bias": -2.0},
        parameters=parameters,
        metadata=Metadata(
            title="Highway connection",
            summary="A learned gate mixes the branch with its input, feature by feature.",
            formula=r"y = T(x) \odot F(x) + (1 - T(x)) \odot x",
            strengths=("the input decides what is carried", "trains at a hundred layers"),
            weaknesses=("a weight matrix for each gate", "a closed gate stops the gradient"),
            use_when="Where what passes must depend on the input: recurrent and mixed stacks.",
            tags=("skip", "gated", "learnable", "very_deep"),
            section="skip connections",
            paper=Paper(
                title="Highway Networks",
                authors=("Rupesh Kumar Srivastava", "Klaus Greff", "Jürgen Schmidhuber"),
                year=2015,
                url="https://arxiv.org/abs/1505.00387",
            ),
            properties={"stochastic": False, "differentiable": True, "identity_path": False},
        ),
    )
