"""A hybrid with convolution learns local structure with less data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.registry.shapes import Shape
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.recall import best_error, relative_error
from bakeoff.suites.claims.training import SideBySide

N, FEATURES, WIDTH, HEADS, BATCH = 16, 4, 32, 4, 16
#: Sequences to learn from: few, and so many that attention learns it too.
FEW, MANY = 32, 128
RATES = (0.003, 0.01, 0.03)
#: How far a place sees, on each side: what is learned, and what the convolution covers.
REACH = 1


class Layer(nn.Module):
    """y = W_o Attention(x W_q, x W_k, x W_v), where x knows its place."""

    def __init__(self, experiment: Experiment, role: str, **options: int) -> None:
        super().__init__()
        self.place = nn.Parameter(experiment.normal(N, WIDTH, stream=10))

        def linear(inputs: int, outputs: int, stream: int) -> nn.Parameter:
            return nn.Parameter(
                experiment.normal(inputs, outputs, stream=stream) / math.sqrt(inputs)
            )

        self.w_in = linear(FEATURES, WIDTH, 11)
        self.w_qkv = linear(WIDTH, 3 * WIDTH, 12)
        self.w_out = linear(WIDTH, FEATURES, 13)
        dim = WIDTH // HEADS
        shape = Shape(1, HEADS, HEADS, N, N, dim, dim)
        self.attention = experiment.module(role, shape, options=options, stream=14)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, N, FEATURES) -> the same."""
        y = x @ self.w_in + self.place
        q, k, v = (
            part.reshape(*part.shape[:-1], HEADS, -1).transpose(1, 2)
            for part in (y @ self.w_qkv).chunk(3, -1)
        )
        read: torch.Tensor = self.attention(q, k, v)  # (n, H, N, D)
        return read.transpose(1, 2).flatten(2) @ self.w_out


def measure(experiment: Experiment) -> Mapping[str, float]:
    """The error on fresh data after learning from few: who has less needs less data for the same.

    What is learned is y_i = Σ_t A_t x_{i+t} over |t| ≤ REACH with matrices of the seed, plus
    noise of a tenth of its variance, on sequences of independent normal features: nothing but the
    neighbours helps. Attention has to find them by place, the convolution looks nowhere else.
    Fresh data have no noise: no model could learn it.
    """
    attention = _error(experiment, "attention", FEW)
    hybrid = _error(experiment, "hybrid", FEW, kernel=2 * REACH + 1)
    many = _error(experiment, "attention", MANY)
    return {"ratio": hybrid / attention, "attention_with_many": many}


def _error(experiment: Experiment, role: str, sequences: int, **options: int) -> float:
    layer = Layer(experiment, role, **options).to(experiment.device)
    copies, generator = SideBySide(layer, len(RATES)), experiment.generator(1)
    taps = experiment.normal(2 * REACH + 1, FEATURES, FEATURES, stream=2)
    taps = taps / math.sqrt(len(taps) * FEATURES)

    def fresh(size: int, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(size, N, FEATURES, generator=generator).to(experiment.device)
        padded = torch.nn.functional.pad(x, (0, 0, REACH, REACH))
        y = sum(padded[:, t : t + N] @ tap for t, tap in enumerate(taps))
        return x, y + noise * torch.randn(size, N, FEATURES, generator=generator).to(x.device)

    x, y = fresh(sequences, math.sqrt(0.1))

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(sequences, (BATCH,), generator=generator)
        return x[rows], y[rows]

    steps = experiment.at_scale(300, 3000)
    copies.descend(relative_error, batch, RATES, steps, experiment.alive)
    return best_error(copies, fresh, 512)


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim."""
    yield Claim(
        "hybrid_local",
        "A hybrid with convolution learns local structure with less data.",
        "Wu et al. 2020, Lite Transformer, §4; d'Ascoli et al. 2021, ConViT, §1",
        number=23,
        roles={"hybrid": "conv_hybrid", "attention": "scaled_dot_product"},
        criteria=(
            Criterion(
                "ratio",
                "error of the hybrid ÷ that of attention, 32 sequences",
                below=1.0,
                log=True,
            ),
            Criterion("attention_with_many", "share left unexplained by attention, 128", below=0.5),
        ),
        measure=measure,
    )
