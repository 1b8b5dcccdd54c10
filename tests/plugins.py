"""Plugin files for tests: one right source, and ways to change it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SOURCE", "changed", "write"]

SOURCE = """
import torch
from torch import nn
from bakeoff import Attention, Forward, Identity, Metadata, Paper, hookimpl
from bakeoff import allowed_keys, masked_softmax


def reference(q, k, v, *, window, slope, mask=None, causal=False, scale=None):
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale) * slope
    return masked_softmax(scores, allowed_keys(q, k, mask, causal)) @ v


def parameters(shape, generator, *, window):
    return {"slope": nn.Parameter(torch.ones(1))}


@hookimpl
def bakeoff_variants():
    yield Attention(
        "planted",
        forwards={"reference": reference},
        options={"window": 8},
        parameters=parameters,
        metadata=Metadata(
            title="Planted",
            summary="For tests.",
            formula="o",
            strengths=("short",),
            weaknesses=("useless",),
            use_when="Never.",
            tags=("soft",),
            properties={"row_stochastic": True},
            paper=Paper(title="None", authors=("Nobody",), year=2024),
        ),
    )
"""


def changed(*replacements: tuple[str, str]) -> str:
    """The source with these parts replaced; each must be there."""
    source = SOURCE
    for old, new in replacements:
        assert old in source, old
        source = source.replace(old, new)
    return source


def write(folder: Path, name: str, source: str = SOURCE) -> Path:
    """A plugin file."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path
