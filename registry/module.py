"""Wraps a variant as an ``nn.Module`` with its own parameters, buffers and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bakeoff.registry.binding import CONTEXT, context_for, draw, resolve_options
from bakeoff.registry.errors import UnsupportedError, UsageError
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Variant

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
        UsageError: For a shape or an option of the wrong type.

    Example:
        >>> import bakeoff, torch
        >>> prelu = bakeoff.module(bakeoff.load()["prelu"], 8)
        >>> prelu(torch.ones(2, 8)).shape, [name for name, _ in prelu.named_parameters()]
        (torch.Size([2, 8]), ['slope'])
    """
    return VariantModule(variant, shape, forward, resolve_options(variant, options), generator)


class VariantModule(nn.Module):
    """A variant as a module; made by :func:`module`.

    The arguments of a call are those of the variant's kind, with the variant's ``inputs`` and the
    context (``grid``, ``layer``, ``depth``, ``history``) by keyword.
    """

    def __init__(
        self,
        variant: Variant,
        shape: Shape | int,
        forward: str,
        options: Mapping[str, Any],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        wanted = Shape if variant.kind == "attention" else int
        if not isinstance(shape, wanted):
            raise UsageError(
                f"{variant.name}: shape is {shape!r}, expected "
                + ("a bakeoff.Shape" if wanted is Shape else "the number of features")
            )
        self.variant, self.shape, self.options = variant, shape, dict(options)
        self.forward_name, self.chosen = forward, variant.forward(forward)
        names = []
        for name, tensor in draw(variant, "parameters", shape, generator, options).items():
            names.append(name)
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        self._drawn = tuple(names)
        # Drawn once for the names alone, without touching the global generator.
        self._noise_names = tuple(
            draw(variant, "noise", shape, torch.Generator().manual_seed(0), options)
        )

    def extra_repr(self) -> str:
        """The variant, its forward and its options, for ``print(module)``."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.variant.name}:{self.forward_name}{options}"

    def forward(self, *tensors: Any, **keywords: Any) -> torch.Tensor:
        """Call the variant's forward with its parameters, options and noise.

        Raises:
            UnsupportedError: Where the forward cannot run this case, with the reason.
        """
        call_shape = self._call_shape(tensors, keywords)
        self._require_support(tensors[0], call_shape, keywords)
        declared = {name: getattr(self, name) for name in self._drawn}
        drawn_for = call_shape if isinstance(call_shape, Shape) else call_shape.features
        noise = self._noise(drawn_for, tensors[0])
        given = {n: v for n, v in keywords.items() if n not in CONTEXT}
        context = context_for(self.chosen.fn, keywords)
        fn: Callable[..., torch.Tensor] = self.chosen.fn
        return fn(*tensors, **self.options, **declared, **noise, **given, **context)

    def _call_shape(
        self, tensors: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Shape | FeatureShape:
        if self.variant.kind != "attention":
            x = tensors[0]
            return FeatureShape(1, max(1, x.numel() // x.shape[-1]), x.shape[-1])
        q, k, v = tensors
        if k.shape[1] != q.shape[1] and not getattr(self.variant, "grouped", False):
            raise UnsupportedError(
                f"{self.variant.name}: k has {k.shape[1]} heads and q {q.shape[1]}; this variant "
                "needs as many of both"
            )
        return Shape(
            q.shape[0],
            q.shape[1],
            k.shape[1],
            q.shape[2],
            k.shape[2],
            q.shape[3],
            v.shape[3],
            keywords.get("grid"),
        )

    def _require_support(
        self, first: torch.Tensor, shape: Shape | FeatureShape, keywords: Mapping[str, Any]
    ) -> None:
        mask = keywords.get("mask")
        level = 0 if mask is None else 1 if mask.dim() >= 2 and mask.shape[-2] == 1 else 2
        if level > ("none", "keys", "full").index(self.chosen.masks):
            reason: str | None = f"it obeys masks of kind {self.chosen.masks!r} only"
        else:
            pattern = None
            if isinstance(shape, Shape):
                same = shape.q_len == shape.k_len
                causal = bool(keywords.get("causal"))
                pattern = (
                    ("causal_self" if same else "causal_cross")
                    if causal
                    else ("self" if same else "cross")
                )
            reason = self.chosen.why_not(
                Case(
                    kind=self.variant.kind,
                    shape=shape,
                    pattern=pattern,
                    options=self.options,
                    dtype=str(first.dtype).removeprefix("torch."),
                    device=first.device.type,
                    direction="training"
                    if torch.is_grad_enabled() and self.training
                    else "forward",
                )
            )
        if reason:
            raise UnsupportedError(f"{self.variant.name}:{self.forward_name}: {reason}")

    def _noise(self, shape: Shape | int, like: torch.Tensor) -> dict[str, torch.Tensor | None]:
        if not self.training:
            return dict.fromkeys(self._noise_names)
        drawn = draw(self.variant, "noise", shape, None, self.options)
        return {name: tensor.to(like) for name, tensor in drawn.items()}
