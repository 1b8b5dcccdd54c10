"""Identity (the linear unit of Widrow and Hoff, 1960)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bakeoff import Activation, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x, copied as by any other activation."""
    return x.clone()


def view(x: torch.Tensor) -> torch.Tensor:
    """x under another name: nothing is copied."""
    return x.view_as(x)


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Identity."""
    yield Activation(
        "identity",
        forwards={"reference": reference, "view": view},
        metadata=Metadata(
            title="Identity",
            summary="The input, unchanged.",
            formula=r"\phi(x) = x",
            strengths=("the gradient passes undiminished", "costs nothing"),
            weaknesses=("a stack of linear layers is one linear layer",),
            use_when="The output layer of a regression; a control beside any other activation.",
            tags=("output_layer",),
            paper=Paper(
                title="Adaptive Switching Circuits",
                authors=("Bernard Widrow", "Marcian E. Hoff"),
                year=1960,
                url="https://isl.stanford.edu/~widrow/papers/c1960adaptiveswitching.pdf",
            ),
            properties={
                "elementwise": True,
                "smooth": True,
                "monotonic": True,
                "range": (-float("inf"), float("inf")),
                "zero_centred": True,
            },
            aliases=("linear",),
            control=True,
        ),
    )
