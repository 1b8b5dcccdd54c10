"""Wraps a variant as an ``nn.Module`` with its own parameters, buffers and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bakeoff.registry.binding import CONTEXT, context_for, draw, resolve_options
from bakeoff.registry.errors import UnsupportedError, UsageError, typed
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Forward, Variant

__all__ = ["VariantModule", "module"]


def module(
    variant: Variant,
    shape: Shape | int,
    *,
    forward: str = "reference",
    options: Mapping[str, Any] | None = None,
    generator: torch.Generator | None = None,
) -> VariantModule:
    """Make an ``nn.Module`` of a variant.

    Its parameters are drawn for ``shape``; calls may have other batch sizes and lengths as far
    as the parameters allow. Noise is redrawn at each call when training and absent when not.

    Args:
        variant: The variant.
        shape: A :class:`Shape` for attention, the number of features otherwise.
        forward: Which of the variant's forwards to run.
        options: Options that differ from their defaults.
        generator: Where the parameters are drawn from; None for torch's global generator.

    Raises:
        UnknownNameError: For an unknown forward or option.
        UsageError: For a variant, a shape or an option of the wrong type.

    Example:
        >>> import bakeoff, torch
        >>> prelu = bakeoff.module(bakeoff.load()["prelu"], 8)
        >>> prelu(torch.ones(2, 8)).shape, [name for name, _ in prelu.named_parameters()]
        (torch.Size([2, 8]), ['slope'])
    """
    if not isinstance(variant, Variant):
        raise UsageError(
            f"variant is {typed(variant)}, expected one such as bakeoff.load()['relu']"
        )
    wanted = Shape if variant.kind == "attention" else int
    if not isinstance(shape, wanted) or (isinstance(shape, int) and (shape < 1 or shape is True)):
        expected = "a bakeoff.Shape" if wanted is Shape else "the number of features, at least 1"
        raise UsageError(f"{variant.name}: shape is {typed(shape)}, expected {expected}")
    return VariantModule(variant, shape, forward, resolve_options(variant, options), generator)


class VariantModule(nn.Module):
    """A variant as a module; made by :func:`module`.

    The arguments of a call are those of the variant's kind, with the variant's ``inputs`` and the
    context (``grid``, ``layer``, ``depth``, ``history``) by keyword.
    """

    # Declared here so that validation can refuse a parameter of the same name.
    variant: Variant
    shape: Shape | int
    options: dict[str, Any]
    forward_name: str
    chosen: Forward
    drawn_names: tuple[str, ...]
    noise_names: tuple[str, ...]

    def __init__(
        self,
        variant: Variant,
        shape: Shape | int,
        forward: str,
        options: Mapping[str, Any],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.variant, self.shape, self.options = variant, shape, dict(options)
        self.forward_name, self.chosen = forward, variant.forward(forward)
        drawn = draw(variant, "parameters", shape, generator, options)
        for name, tensor in drawn.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        self.drawn_names = tuple(drawn)
        # Drawn once for the names alone, without moving the global generator.
        with torch.random.fork_rng(devices=[]):
            self.noise_names = tuple(draw(variant, "noise", shape, None, options))

    def __getstate__(self) -> dict[str, Any]:
        """Without the identities: only tests need them, and lambdas can't be saved."""
        return {**self.__dict__, "variant": replace(self.variant, identities=())}

    def extra_repr(self) -> str:
        """The variant, its forward and its options, for ``print(module)``."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.variant.name}:{self.forward_name}{options}"

    def forward(self, *tensors: Any, **keywords: Any) -> torch.Tensor:
        """Call the variant's forward with its parameters, options and noise.

        Raises:
            UnsupportedError: Where the forward cannot run this case, with the reason.
            UsageError: For tensors that are not those of the kind.
        """
        shape = self._shape_of_call(tensors, keywords)
        declared = {name: getattr(self, name) for name in self.drawn_names}
        self._require_support((*tensors, *declared.values()), shape, keywords)
        noise = self._noise(shape, tensors[0])
        given = {name: value for name, value in keywords.items() if name not in CONTEXT}
        context = context_for(self.chosen.fn, keywords)
        fn: Callable[..., torch.Tensor] = self.chosen.fn
        return fn(*tensors, **self.options, **declared, **noise, **given, **context)

    def _shape_of_call(
        self, tensors: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Shape | FeatureShape:
        attention = self.variant.kind == "attention"
        names = self.variant.arguments[: 3 if attention else None]
        if len(tensors) != len(names):
            raise UsageError(
                f"{self.variant.name}: got {len(tensors)} positional arguments, expected "
                f"{', '.join(names)}, and all others by keyword"
            )
        if not attention:
            return _features_of(self.variant.name, tensors[0])
        q, k, v = tensors
        for name, tensor in zip(names, tensors, strict=True):
            if tensor.dim() != 4:
                raise UsageError(
                    f"{self.variant.name}: {name} has shape {tuple(tensor.shape)}, expected "
                    "(batch, heads, length, size)"
                )
        if k.shape[1] != q.shape[1] and not getattr(self.variant, "grouped", False):
            raise UnsupportedError(
                f"{self.variant.name}: k has {k.shape[1]} heads and q {q.shape[1]}; this variant "
                "needs as many of both"
            )
        grid = keywords.get("grid")
        (batch, heads, q_len, head_dim), (_, kv_heads, k_len, _) = q.shape, k.shape
        return Shape(batch, heads, kv_heads, q_len, k_len, head_dim, v.shape[3], grid)

    def _require_support(
        self, tensors: tuple[Any, ...], shape: Shape | FeatureShape, keywords: Mapping[str, Any]
    ) -> None:
        case = Case(
            kind=self.variant.kind,
            shape=shape,
            pattern=_pattern(shape, causal=bool(keywords.get("causal"))),
            options=self.options,
            dtype=str(tensors[0].dtype).removeprefix("torch."),
            device=tensors[0].device.type,
            direction="training" if _wants_gradient(tensors) else "forward",
        )
        mask = keywords.get("mask")
        reason = (
            self._mask_refused(mask) or self.variant.excluded(case) or self.chosen.why_not(case)
        )
        if reason:
            raise UnsupportedError(f"{self.variant.name}:{self.forward_name}: {reason}")

    def _mask_refused(self, mask: torch.Tensor | None) -> str | None:
        if mask is None or self.variant.kind != "attention":
            return None
        if mask.dtype != torch.bool:
            raise UsageError(
                f"{self.variant.name}: mask has dtype {mask.dtype}, expected torch.bool, True "
                "where a query may attend"
            )
        finest = "keys" if mask.dim() < 2 or mask.shape[-2] == 1 else "full"
        levels = ("none", "keys", "full")
        if levels.index(finest) <= levels.index(self.chosen.masks):
            return None
        return f"it obeys masks of kind {self.chosen.masks!r} only, and this one is {finest!r}"

    def _noise(
        self, shape: Shape | FeatureShape, like: torch.Tensor
    ) -> dict[str, torch.Tensor | None]:
        if not self.training:
            return dict.fromkeys(self.noise_names)
        size = shape if isinstance(shape, Shape) else shape.features
        drawn = draw(self.variant, "noise", size, None, self.options)
        return {
            # A mask or an index keeps its type.
            name: noise.to(like.device, like.dtype if noise.is_floating_point() else noise.dtype)
            for name, noise in drawn.items()
        }


def _features_of(name: str, x: torch.Tensor) -> FeatureShape:
    if x.dim() == 0:
        raise UsageError(f"{name}: x has shape (), expected (…, features)")
    return FeatureShape(1, max(1, x.shape[:-1].numel()), x.shape[-1])


def _pattern(shape: Shape | FeatureShape, *, causal: bool) -> str | None:
    if not isinstance(shape, Shape):
        return None
    if shape.q_len == shape.k_len:
        return "causal_self" if causal else "self"
    if not causal:
        return "cross"
    return "decode" if shape.q_len == 1 else "causal_cross"


def _wants_gradient(tensors: tuple[Any, ...]) -> bool:
    return torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in tensors if isinstance(tensor, torch.Tensor)
    )
