"""Direct evidence, in plain torch: does a forward differ from what it should be, and where?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from bakeoff import Case, FeatureShape, Shape, Variant
from bakeoff.registry.binding import draw, resolve_options

__all__ = [
    "NORMAL",
    "Witness",
    "call",
    "differs_anywhere",
    "draw_arguments",
    "error_of",
    "forward_differs",
    "gradient_differs",
    "gradients",
]

Tensor = torch.Tensor
#: Given the planted variant, whether its fault is there.
Witness = Callable[[Variant], bool]

#: The call that is tried unless a fault says otherwise.
NORMAL: Mapping[str, Any] = {
    "batch": 2,
    "heads": 2,
    "kv_heads": None,  # as heads
    "q_len": 12,
    "k_len": None,  # as q_len
    "head_dim": 8,
    "value_dim": None,  # as head_dim
    "size": (2, 12, 8),  # of x, where it is no attention
    "grid": None,
    "mask": None,  # or "random" (B, H, Nq, Nk), "keys" (B, 1, 1, Nk), or a function of q, k
    "causal": False,
    "scale": None,
    "dtype": torch.float64,
    "spread": 1.0,  # standard deviation of what is drawn
    "mean": 0.0,
    "options": {},
    "tensors": {},  # parameters, inputs and noise that are not as drawn
    "branch": torch.tanh,
    "evaluate": False,  # without noise
}


def draw_arguments(variant: Variant, at: Mapping[str, Any], seed: int = 0) -> tuple[Any, ...]:
    """Positional arguments and keywords of one call, in float64 with the values of its dtype."""
    unknown = set(at) - set(NORMAL)
    assert not unknown, unknown
    case = {**NORMAL, **at}
    generator = torch.Generator().manual_seed(seed)
    options = resolve_options(variant, case["options"])

    def normal(*size: int) -> Tensor:
        drawn = torch.randn(*size, generator=generator, dtype=torch.float64)
        return (drawn * case["spread"] + case["mean"]).to(case["dtype"]).double()

    shape: Shape | int
    keywords: dict[str, Any] = {}
    if variant.kind == "attention":
        kv_heads = case["kv_heads"] or case["heads"]
        k_len = case["k_len"] or case["q_len"]
        value_dim = case["value_dim"] or case["head_dim"]
        sizes = (case["heads"], kv_heads, case["q_len"], k_len, case["head_dim"], value_dim)
        shape = Shape(case["batch"], *sizes, grid=case["grid"])
        q = normal(shape.batch, shape.heads, shape.q_len, shape.head_dim)
        k = normal(shape.batch, shape.kv_heads, shape.k_len, shape.head_dim)
        v = normal(shape.batch, shape.kv_heads, shape.k_len, shape.value_dim)
        positional: tuple[Any, ...] = (q, k, v)
        mask = _mask(case["mask"], q, k, generator)
        keywords = {"mask": mask, "causal": case["causal"], "scale": case["scale"]}
        if case["grid"]:
            keywords["grid"] = case["grid"]
    else:
        x = normal(*case["size"])
        shape = x.shape[-1]
        positional = (x,) if variant.kind == "activation" else (x, case["branch"])
    tensors: dict[str, Tensor | None] = {}
    for source in ("parameters", "inputs", "noise"):
        drawn = draw(variant, source, shape, generator, options)
        if source == "noise" and case["evaluate"]:
            drawn = dict.fromkeys(drawn)  # type: ignore[arg-type]
        tensors |= drawn
    tensors |= case["tensors"]
    floats = {
        name: _wide(value.detach(), case["dtype"]) if value is not None else None
        for name, value in tensors.items()
    }
    return positional, {**keywords, **options, **floats}


def _wide(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype).double() if value.is_floating_point() else value


def _mask(kind: Any, q: Tensor, k: Tensor, generator: torch.Generator) -> Tensor | None:
    if kind is None or callable(kind):
        return kind(q, k) if kind else None
    rows = (q.shape[1], q.shape[2]) if kind == "random" else (1, 1)
    drawn = torch.rand(q.shape[0], *rows, k.shape[2], generator=generator) < 0.6
    drawn[..., 0] = True
    return drawn


def call(
    variant: Variant, forward: str, positional: Any, keywords: Any, dtype: torch.dtype
) -> Tensor:
    """What a forward returns for arguments that are cast to ``dtype``, as float64."""

    def cast(value: Any) -> Any:
        # A copy of its own, so that what is changed in place spoils no other call.
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(dtype, copy=True) if floating else value

    given = [cast(value) for value in positional]
    keywords = {name: cast(value) for name, value in keywords.items()}
    return torch.as_tensor(variant.forward(forward).fn(*given, **keywords)).double()


def error_of(got: Tensor, true: Tensor) -> float:
    """The RMS error over the RMS of what is true, or over 0.01 where that vanishes.

    Infinite where it is not finite, or of another shape.
    """
    if got.shape != true.shape or not got.isfinite().all():
        return float("inf")
    return float((got - true).square().mean().sqrt() / true.square().mean().sqrt().clamp(min=0.01))


def forward_differs(forward: str, at: Mapping[str, Any], truth: Variant | None = None) -> Witness:
    """Whether it differs from the reference in float64 by more than the reference in its dtype.

    Args:
        forward: The forward in question.
        at: The call, as changes to :data:`NORMAL`.
        truth: The variant whose reference is true; the variant itself if None.
    """

    def differs(variant: Variant) -> bool:
        right = truth or variant
        positional, keywords = draw_arguments(variant, at)
        dtype = {**NORMAL, **at}["dtype"]
        known = {**keywords}
        true = call(right, "reference", positional, known, torch.float64)
        try:
            got = call(variant, forward, positional, keywords, dtype)
        except Exception:
            return True
        own = error_of(call(right, "reference", positional, known, dtype), true)
        limit = max(2 * own, 8 * torch.finfo(dtype).eps) if own < float("inf") else 0.5
        return error_of(got, true) > limit

    return differs


def gradients(
    variant: Variant,
    forward: str,
    positional: Any,
    keywords: Any,
    dtype: torch.dtype,
    incoming: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The gradient of every tensor that takes one, as float64, by name."""
    leaves: dict[str, Tensor] = {}

    def leaf(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        leaves[name] = value.to(dtype, copy=True).requires_grad_()
        return leaves[name]

    given = [leaf(f"argument {i}", value) for i, value in enumerate(positional)]
    keywords = {name: leaf(name, value) for name, value in keywords.items()}
    output = variant.forward(forward).fn(*given, **keywords)
    make = incoming or (lambda y: torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape))
    found = torch.autograd.grad(output, list(leaves.values()), make(output), allow_unused=True)
    return {
        name: torch.zeros_like(leaf).double() if gradient is None else gradient.double()
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def gradient_differs(
    at: Mapping[str, Any] = NORMAL,
    incoming: Callable[[Tensor], Tensor] | None = None,
    forward: str = "fast",
    truth: Variant | None = None,
) -> Witness:
    """Whether a gradient of a forward differs from that of the reference in float64."""

    def differs(variant: Variant) -> bool:
        right = truth or variant
        positional, keywords = draw_arguments(variant, at)
        dtype = {**NORMAL, **at}["dtype"]
        true = gradients(right, "reference", positional, keywords, torch.float64, incoming)
        try:
            got = gradients(variant, forward, positional, keywords, dtype, incoming)
        except RuntimeError:
            return True
        own = gradients(right, "reference", positional, keywords, dtype, incoming)
        rounding = min(256 * torch.finfo(dtype).eps, 0.02)
        for name in true:
            limit = max(2 * error_of(own[name], true[name]), rounding)
            if error_of(got[name], true[name]) > min(limit, 0.5):
                return True
        return False

    return differs


#: Calls at which a right forward must not differ, beside its own.
VARIED: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "attention": (
        {"causal": True},
        {"mask": "random", "batch": 3},
        {"mask": "keys", "causal": True, "batch": 1, "heads": 1},
        {"q_len": 5, "k_len": 23, "causal": True, "scale": -0.3, "value_dim": 3},
        {"q_len": 9, "k_len": 4, "causal": True, "mask": "random", "head_dim": 7},
        {"q_len": 70, "heads": 3, "head_dim": 1, "dtype": torch.float32},
        {"q_len": 12, "spread": 8.0, "dtype": torch.float32},
        {"q_len": 12, "dtype": torch.bfloat16},
    ),
    "activation": tuple(
        {"size": size, "dtype": dtype, "spread": 3.0}
        for size in ((4, 6), (2, 3, 4, 10), (1, 2))
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    ),
    "connection": tuple(
        {"size": size, "dtype": dtype}
        for size in ((4, 6), (2, 3, 4, 10), (1, 2))
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    ),
}


def differs_anywhere(at: Mapping[str, Any]) -> Witness:
    """Whether the fast forward differs in outputs or gradients, ``at`` a call or at varied ones.

    What it says that it can't do is left out.
    """

    def differs(variant: Variant) -> bool:
        chosen = variant.forward("fast")
        fixed = _fixed_sizes(at)
        for more in ({}, *(() if "grid" in at else VARIED[variant.kind])):
            case = {**at, **({"mask": None} if more else {}), **more, **fixed}
            if _refused(variant, case):
                continue
            if forward_differs("fast", case)(variant):
                return True
            exactly = case.get("dtype", torch.float64) != torch.bfloat16
            if chosen.backward and exactly and gradient_differs(case)(variant):
                return True
        return False

    return differs


def _fixed_sizes(at: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a call that heads which share keys, or given tensors, fix."""
    if not at.keys() & {"kv_heads", "tensors"}:
        return {}
    return {name: at[name] for name in ("heads", "kv_heads", "tensors") if name in at}


def _refused(variant: Variant, at: Mapping[str, Any]) -> bool:
    chosen, case = variant.forward("fast"), {**NORMAL, **at}
    finest = {None: "none", "keys": "keys"}.get(case["mask"], "full")
    levels = ("none", "keys", "full")
    if levels.index(finest) > levels.index(chosen.masks):
        return True
    if chosen.supports is None:
        return False
    shape: Shape | FeatureShape = FeatureShape(1, 1, case["size"][-1])
    if variant.kind == "attention":
        k_len, value_dim = case["k_len"] or case["q_len"], case["value_dim"] or case["head_dim"]
        heads = (case["heads"], case["kv_heads"] or case["heads"])
        sizes = (*heads, case["q_len"], k_len, case["head_dim"], value_dim)
        shape = Shape(case["batch"], *sizes, grid=case["grid"])
    dtype = str(case["dtype"]).removeprefix("torch.")
    return chosen.supports(Case(kind=variant.kind, shape=shape, dtype=dtype)) is not None
