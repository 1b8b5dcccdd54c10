"""A variant in a user's own model: composed, trained, compiled, exported, saved and loaded."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from test_module import FEATURES, FORWARDS, case_of, example, made
from torch import nn

import bakeoff
from bakeoff import Catalog, Shape
from bakeoff.registry.variants import Variant
from bakeoff.suites.tensors import why_not

#: One of each sort that a tracer meets: plain, learned, gated, fused, in blocks, recurrent, with a
#: grid, with a history, with noise, and with a backward of its own.
SAMPLE = {
    "relu:torch",
    "prelu:reference",
    "swiglu:reference",
    "scaled_dot_product:reference",
    "scaled_dot_product:sdpa",
    "scaled_dot_product:tiled",
    "multi_head:sdpa",
    "grouped_query:sdpa",
    "sliding_window:chunked",
    "linear_attention:chunked",
    "swin:windowed",
    "stochastic_depth:reference",
    "highway:reference",
}

quick_for_a_sample = pytest.mark.parametrize(
    ("variant", "forward"),
    [
        pytest.param(
            v, f, id=f"{v.name}:{f}", marks=() if f"{v.name}:{f}" in SAMPLE else pytest.mark.slow
        )
        for v, f in FORWARDS
    ],
)


class Inputs(nn.Module):
    """A user's model: what the variant takes comes from projections of one input."""

    def __init__(self, variant: Variant, forward: str) -> None:
        super().__init__()
        self.given, self.keywords = example(variant)
        self.kind = variant.kind
        if variant.kind == "attention":
            shape = case_of(variant).attention_shape
            sizes = [(shape.heads, shape.head_dim), (shape.kv_heads, shape.head_dim)]
            self.sizes = [*sizes, (shape.kv_heads, shape.value_dim)]
            self.projections = nn.ModuleList(nn.Linear(FEATURES, h * d) for h, d in self.sizes)
        elif variant.kind == "connection":
            self.branch = nn.Linear(FEATURES, FEATURES)
        self.variant = made(variant, forward)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "activation":
            return self.variant(x)
        if self.kind == "connection":
            return self.variant(x, self.branch, **self.keywords)
        parts = [
            projection(x).unflatten(-1, size).transpose(1, 2)
            for projection, size in zip(self.projections, self.sizes, strict=True)
        ]
        return self.variant(*parts, **self.keywords)


def model_of(variant: Variant, forward: str) -> tuple[nn.Module, torch.Tensor]:
    """The model and an input; skipped where the forward refuses it."""
    if reason := why_not(variant, forward, case_of(variant)):
        pytest.skip(reason)
    torch.manual_seed(0)
    return Inputs(variant, forward).eval(), torch.randn(2, 12, FEATURES)


@pytest.mark.filterwarnings("default")  # those of torch.export itself
@quick_for_a_sample
def test_it_is_exported(variant: Variant, forward: str) -> None:
    model, x = model_of(variant, forward)
    exported = torch.export.export(model, (x,)).module()
    # For inference: of a backward of our own that writes with out= torch traces the forward alone.
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)
        other = torch.randn_like(x)  # no number of the example may have become a constant
        torch.testing.assert_close(exported(other), model(other), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("default")
@quick_for_a_sample
def test_it_is_traced_in_one_graph(variant: Variant, forward: str) -> None:
    """Without the code that a compiler makes of it, which takes long and is torch's own matter."""
    model, x = model_of(variant, forward)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


@quick_for_a_sample
def test_it_is_trained_saved_and_loaded(variant: Variant, forward: str) -> None:
    """A step of training, and the state of the whole model into a fresh one."""
    model, x = model_of(variant, forward)
    parameters = list(model.parameters())
    if parameters and variant.forward(forward).backward:
        model(x).square().mean().backward()
        torch.optim.SGD(parameters, lr=0.1).step()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = Inputs(variant, forward).eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    fresh.keywords = model.keywords
    assert torch.equal(fresh(x), model(x))


def test_a_dynamic_length(catalog: Catalog) -> None:
    """One exported program for every batch and length."""
    shape = Shape(1, 2, 2, 8, 8, 4, 4)
    module = bakeoff.module(catalog["scaled_dot_product"], shape, forward="sdpa").eval()
    q = torch.randn(2, 2, 8, 4)
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    dynamic: Any = ((free, free, free),)
    exported = torch.export.export(module, (q, q, q), dynamic_shapes=dynamic).module()
    longer = torch.randn(3, 2, 20, 4)
    torch.testing.assert_close(exported(longer, longer, longer), module(longer, longer, longer))
