"""Draws the tensors of a case and calls forwards on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bakeoff.registry.binding import CONTEXT, context_for, draw, named, takes
from bakeoff.registry.errors import UsageError
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Attention, Variant

__all__ = ["Arguments", "arguments_for", "dtype_of", "unit_roundoff", "why_not"]

#: How much larger than normal the queries (or x) are where the inputs are peaked.
PEAK = 8.0
#: Added to a seed for the data, which are the same for all variants; torch reads 32 bits of a seed.
SHARED = 2**31


@dataclass(frozen=True)
class Arguments:
    """All arguments of one call of a forward.

    Args:
        data: q, k and v, or x: positional.
        learned: Parameters that learn.
        given: The variant's declared inputs.
        fixed: Buffers and noise.
        plain: Options, mask, causal, scale.
        context: What reaches only a forward that names it.
        branch: The weight (F, F) of a connection's branch, h -> tanh(h W).
    """

    data: Mapping[str, torch.Tensor]
    learned: Mapping[str, torch.Tensor] = field(default_factory=dict)
    given: Mapping[str, torch.Tensor] = field(default_factory=dict)
    fixed: Mapping[str, torch.Tensor | None] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    branch: torch.Tensor | None = None

    def call(
        self,
        fn: Callable[..., torch.Tensor],
        branch: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The output of ``fn``; a connection gets ``branch`` in place of :meth:`branch_of`."""
        return self.bind(fn, branch)()

    def bind(
        self,
        fn: Callable[..., torch.Tensor],
        branch: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Callable[[], torch.Tensor]:
        """That call, made ready: what remains costs little beside it."""
        positional: list[Any] = list(self.data.values())
        if self.branch is not None:
            positional.append(branch or self.branch_of)
        keywords = {**self.learned, **self.given, **self.fixed, **self.plain}
        return partial(fn, *positional, **keywords, **context_for(fn, self.context))

    def branch_of(self, h: torch.Tensor) -> torch.Tensor:
        """What the branch of a connection returns."""
        assert self.branch is not None
        return torch.tanh(h @ self.branch)

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Arguments:
        """The same arguments with every floating tensor changed."""

        def changed(tensors: Mapping[str, Any]) -> dict[str, Any]:
            return {
                name: change(t) if isinstance(t, torch.Tensor) and t.is_floating_point() else t
                for name, t in tensors.items()
            }

        return replace(
            self,
            data=changed(self.data),
            learned=changed(self.learned),
            given=changed(self.given),
            fixed=changed(self.fixed),
            branch=None if self.branch is None else change(self.branch),
        )

    def to(self, dtype: torch.dtype, device: str | None = None) -> Arguments:
        """The same arguments, rounded to another dtype, on another device."""
        moved = self.map(lambda t: t.detach().to(dtype=dtype, device=device))
        if device is None:
            return moved
        plain = {n: t.to(device) if torch.is_tensor(t) else t for n, t in moved.plain.items()}
        fixed = {n: t.to(device) if torch.is_tensor(t) else t for n, t in moved.fixed.items()}
        return replace(moved, plain=plain, fixed=fixed)

    def requiring_grad(self) -> Arguments:
        """A copy whose differentiable tensors are leaves that collect gradients."""
        fixed = self.fixed
        leaves = self.map(lambda t: t.detach().clone().requires_grad_())
        return replace(leaves, fixed=fixed)

    def shared(self) -> dict[str, torch.Tensor]:
        """The tensors that do not depend on the variant, by name."""
        return {**self.data, **({} if self.branch is None else {"branch": self.branch})}

    def leaves(self) -> dict[str, torch.Tensor]:
        """What a gradient is taken of, by name: data, inputs, parameters, the branch's weight."""
        named = {**self.data, **self.given, **self.learned}
        if self.branch is not None:
            named["branch"] = self.branch
        return {name: tensor for name, tensor in named.items() if tensor.is_floating_point()}

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor of the call, by name."""
        for name, tensor in {**self.leaves(), **self.given, **self.fixed, **self.plain}.items():
            if isinstance(tensor, torch.Tensor):
                yield name, tensor

    def replacing(self, tensors: Mapping[str, torch.Tensor]) -> Arguments:
        """The same arguments with some tensors replaced by name, wherever they stand."""

        def replaced(group: Mapping[str, Any]) -> dict[str, Any]:
            return {name: tensors.get(name, tensor) for name, tensor in group.items()}

        return replace(
            self,
            data=replaced(self.data),
            learned=replaced(self.learned),
            given=replaced(self.given),
            fixed=replaced(self.fixed),
            branch=tensors.get("branch", self.branch) if self.branch is not None else None,
        )

    def off_start(self, seed: int) -> Arguments:
        """The same arguments with parameters moved off their initial values.

        A parameter that begins at zero, or at one, hides what it multiplies.
        """
        generator = torch.Generator().manual_seed(seed)
        return self.replacing(
            {
                name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor)
                for name, tensor in self.learned.items()
            }
        )

    def having(self, **plain: Any) -> Arguments:
        """The same arguments with some plain ones changed."""
        return replace(self, plain={**self.plain, **plain})


def arguments_for(variant: Variant, case: Case, *, seed: int | None = None) -> Arguments:
    """Draw everything that a call of ``variant`` on ``case`` needs, in the dtype of the case.

    All variants get the same data. Noise is drawn where the direction is training, and None where
    it is not.
    """
    seed = case.seed if seed is None else seed
    generator = torch.Generator().manual_seed(seed)  # of what belongs to the variant
    shared = torch.Generator().manual_seed(seed + SHARED)
    options = dict(case.options) or dict(variant.options)
    attention = isinstance(case.shape, Shape)
    size = case.shape if isinstance(case.shape, Shape) else case.shape.features
    declared = draw(variant, "parameters", size, generator, options)
    noise: dict[str, torch.Tensor | None] = {**draw(variant, "noise", size, generator, options)}
    if case.direction != "training":
        noise = dict.fromkeys(noise)
    plain = {**options}
    if attention:
        plain |= {"mask": None, "causal": case.causal, "scale": None}
    learned = {n: t for n, t in declared.items() if isinstance(t, nn.Parameter)}
    arguments = Arguments(
        data=_data(case, shared),
        learned=learned,
        given=draw(variant, "inputs", size, generator, options),
        fixed={**{n: t for n, t in declared.items() if n not in learned}, **noise},
        plain=plain,
        context=_context(case),
        branch=_branch(case.shape, shared) if variant.kind == "connection" else None,
    )
    return arguments.to(dtype_of(case.dtype), case.device)


def why_not(variant: Variant, forward: str, case: Case) -> str | None:
    """None where the forward can run the case, else the reason."""
    excluded = variant.excluded(case)
    if excluded:
        return excluded
    grouped = isinstance(variant, Attention) and variant.grouped
    if isinstance(case.shape, Shape) and case.shape.kv_heads != case.shape.heads and not grouped:
        return "it needs as many key heads as query heads"
    has_grid = isinstance(case.shape, Shape) and case.shape.grid is not None
    if has_grid and takes(variant, "grid") and "grid" not in named(variant.forward(forward).fn):
        # Without the grid that its rivals see it would compute something else.
        return "it takes no grid"
    if case.device.startswith("cuda") and not torch.cuda.is_available():
        return "there is no CUDA device on this machine"
    return variant.forward(forward).why_not(case)


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype called ``name``."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"dtype: got {name!r}, expected the name of a torch dtype")
    return dtype


def unit_roundoff(dtype: torch.dtype) -> float:
    """u: the largest relative error of rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def _data(case: Case, generator: torch.Generator) -> dict[str, torch.Tensor]:
    if case.inputs not in ("normal", "peaked"):
        return _from_file(case)
    peak = PEAK if case.inputs == "peaked" else 1.0
    if isinstance(case.shape, FeatureShape):
        s = case.shape
        return {"x": peak * torch.randn(s.batch, s.seq_len, s.features, generator=generator)}
    q, k, v = _queries_keys_values(case, case.shape, generator)
    return {"q": peak * q, "k": k, "v": v}


def _queries_keys_values(
    case: Case, shape: Shape, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random projections of one source, or of two where k and v come from elsewhere."""
    width = shape.heads * shape.head_dim

    def source(length: int) -> torch.Tensor:
        return torch.randn(shape.batch, length, width, generator=generator)

    def project(x: torch.Tensor, heads: int, dim: int) -> torch.Tensor:
        weight = torch.randn(width, heads * dim, generator=generator) / math.sqrt(width)
        return (x @ weight).view(shape.batch, -1, heads, dim).transpose(1, 2).contiguous()

    memory = source(shape.k_len)
    # Every pattern but cross has one source: the queries are its last positions.
    queries = source(shape.q_len) if case.pattern == "cross" else memory[:, -shape.q_len :]
    if queries.shape[1] < shape.q_len:
        queries = torch.cat([source(shape.q_len - queries.shape[1]), queries], 1)
    return (
        project(queries, shape.heads, shape.head_dim),
        project(memory, shape.kv_heads, shape.head_dim),
        project(memory, shape.kv_heads, shape.value_dim),
    )


def _from_file(case: Case) -> dict[str, torch.Tensor]:
    """The leading part of the tensors in a file that ``torch.save`` wrote."""
    shape = case.shape
    sizes: dict[str, tuple[int, ...]]
    if isinstance(shape, FeatureShape):
        sizes = {"x": (shape.batch, shape.seq_len, shape.features)}
    else:
        keys = (shape.batch, shape.kv_heads, shape.k_len)
        sizes = {
            "q": (shape.batch, shape.heads, shape.q_len, shape.head_dim),
            "k": (*keys, shape.head_dim),
            "v": (*keys, shape.value_dim),
        }
    expected = ", ".join(f"{name} {size}" for name, size in sizes.items())
    if not Path(case.inputs).is_file():
        raise UsageError(
            f"inputs: got {case.inputs!r}, expected normal, peaked or the path of a file that "
            f"torch.save wrote, a dict with at least {expected}"
        )
    # weights_only: a stranger's file must not be able to run code.
    found = torch.load(case.inputs, weights_only=True, map_location="cpu")
    tensors = {}
    for name, size in sizes.items():
        tensor = found.get(name) if isinstance(found, dict) else None
        got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else ()
        if len(got) != len(size) or any(h < w for h, w in zip(got, size, strict=True)):
            raise UsageError(
                f"inputs: {case.inputs}: {name}: got {got or 'no tensor'}, expected at least {size}"
            )
        assert tensor is not None
        tensors[name] = tensor[tuple(slice(want) for want in size)].float().contiguous()
    return tensors


def _context(case: Case) -> dict[str, Any]:
    grid = case.shape.grid if isinstance(case.shape, Shape) else None
    # In the middle of a network, where what depends on the depth shows.
    return dict(zip(CONTEXT, (grid, 1, 4, ()), strict=True))


def _branch(shape: Shape | FeatureShape, generator: torch.Generator) -> torch.Tensor:
    assert isinstance(shape, FeatureShape)
    weight = torch.randn(shape.features, shape.features, generator=generator)
    return weight / math.sqrt(shape.features)
