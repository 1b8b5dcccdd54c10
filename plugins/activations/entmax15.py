"""1.5-entmax (Peters et al., 2019, algorithm 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Forward, Metadata, Paper, hookimpl
from bakeoff.plugins.activations._entmax import differentiable_once, needs_entmax


def reference(x: torch.Tensor) -> torch.Tensor:
    """max(0, x/2 − τ)², with τ from the sorted row."""
    # What lies 2 below the largest gets nothing, since τ ≥ −1; cut off there, −∞ is a number.
    halved = ((x - x.amax(-1, keepdim=True).detach()) / 2).clamp(min=-2)
    ordered = halved.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    means = ordered.cumsum(-1) / count
    rest = (1 - (ordered.square().cumsum(-1) - count * means.square())) / count
    # The square root is taken of what is chosen alone: elsewhere its gradient may be infinite.
    candidates = means - rest.detach().clamp(min=0).sqrt()
    # At least one, also in a row with a NaN, where every comparison fails.
    last = ((candidates <= ordered).sum(-1, keepdim=True) - 1).clamp(min=0)  # (…, 1)
    threshold = means.gather(-1, last) - rest.gather(-1, last).sqrt()
    # So put, a NaN stays one.
    return torch.where(halved <= threshold, torch.zeros_like(x), halved - threshold).square()


def package(x: torch.Tensor) -> torch.Tensor:
    """The implementation of its authors, in the package entmax."""
    from entmax import entmax15

    return differentiable_once(entmax15(x, dim=-1))


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """1.5-entmax."""
    yield Activation(
        "entmax15",
        forwards={"reference": reference, "package": Forward(package, supports=needs_entmax)},
        metadata=Metadata(
            title="1.5-entmax",
            summary="Between softmax and sparsemax: sparse, and smooth where it is not zero.",
            formula=r"\phi(x) = \arg\max_{p \in \Delta} p^\top x + H_{1.5}(p)",
            strengths=("exact zeros, with a smoother gradient than sparsemax",),
            weaknesses=("needs a sort", "dearer than softmax"),
            use_when="Attention or outputs that should be sparse, trained by gradient.",
            tags=("normalising", "output_layer"),
            paper=Paper(
                title="Sparse Sequence-to-Sequence Models",
                authors=("Ben Peters", "Vlad Niculae", "André F. T. Martins"),
                year=2019,
                url="https://arxiv.org/abs/1905.05702",
            ),
            properties={"elementwise": False, "range": (0.0, 1.0)},
        ),
    )
