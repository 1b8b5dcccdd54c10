"""Probes: what every forward of a kind must obey, whatever it computes.

Each probe is a function of a :class:`Subject` that returns a :class:`Verdict`; its name is the
name of the metric. Those that need an oracle are in :mod:`bakeoff.suites.agreements`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from bakeoff.registry.global_state import GlobalStateError, guarded
from bakeoff.registry.variants import Variant
from bakeoff.suites.agreements import (
    cross,
    mask_gradient,
    options_obeyed,
    prime,
    scale_given,
    single,
    value_size,
)
from bakeoff.suites.backward import gradient_of_each, linear_backward, second_derivative
from bakeoff.suites.branches import branch_called
from bakeoff.suites.budget import gradients_of
from bakeoff.suites.compilation import same_when_compiled
from bakeoff.suites.elementwise import relative_accuracy, special_values
from bakeoff.suites.elsewhere import ELSEWHERE, MixedDevicesError, on_another_device
from bakeoff.suites.layouts import leading_sizes, mask_shapes, non_contiguous
from bakeoff.suites.ranges import extreme, far_from_zero, large_scores
from bakeoff.suites.records import Status
from bakeoff.suites.repeated_calls import computed_at_return, fresh_values, many_calls, outputs_kept
from bakeoff.suites.sensitivity import arguments_matter
from bakeoff.suites.slopes import slope_at_kinks
from bakeoff.suites.slowness import time_of_reference
from bakeoff.suites.tensors import Arguments, dtype_of
from bakeoff.suites.verdicts import (
    Check,
    Subject,
    Unsupported,
    Verdict,
    brief,
    largest_of,
    right_if,
)

__all__ = ["PROBES", "probes_of"]

#: How much larger than normal the values are that must not be seen: a small leak then shows.
LOUD = 100.0


def mask_obeyed(subject: Subject) -> Verdict:
    """Changing k and v where the mask hides them changes nothing."""
    level = subject.forward.masks
    if level == "none":
        raise Unsupported("it declares that it obeys no mask")
    arguments = subject.arguments()
    k = arguments.data["k"]
    generator = _generator(subject)
    hidden = torch.rand(k.shape[0], k.shape[2], generator=generator) < 0.3  # (B, Nk)
    hidden[:, 0], hidden[:, 1] = False, True
    rows = torch.ones(k.shape[0], 1, arguments.data["q"].shape[2], dtype=torch.bool)
    if level == "full":
        # Every other query may see what is hidden from the rest: only the rest must not change.
        rows[:, :, ::2] = False
    mask = ~(hidden[:, None, None, :] & rows[..., None])
    if level == "keys":
        mask = mask[:, :, :1]
    arguments = arguments.having(mask=mask.to(k.device))
    before = subject.output(arguments)
    after = subject.output(_louder(arguments, hidden[:, None, :, None], generator))
    quiet = rows.expand(before.shape[:3]).to(before.device)
    change = largest_of(after[quiet] - before[quiet])
    return right_if(
        change <= subject.slack(before),
        f"outputs change by {change:.3g} when keys and values behind the mask change",
        change,
    )


def no_future_leak(subject: Subject) -> Verdict:
    """With causal=True, changing what comes after a position changes nothing up to it."""
    worst = 0.0
    cases: dict[str, dict[str, Any]] = {"causal_self": {}, "causal_cross": {"q_len": 17}}
    for pattern, sizes in cases.items():
        arguments = subject.arguments(pattern, **sizes)
        before = subject.output(arguments)
        q_len, k_len = arguments.data["q"].shape[2], arguments.data["k"].shape[2]
        for last in (0, q_len // 2, q_len - 2):
            first_hidden = last + 1 + k_len - q_len
            hidden = torch.arange(k_len)[:, None] >= first_hidden
            after = subject.output(_louder(arguments, hidden, _generator(subject)))
            change = largest_of(after[:, :, : last + 1] - before[:, :, : last + 1])
            worst = max(worst, change)
            if change > subject.slack(before):
                return Verdict(
                    Status.WRONG,
                    change,
                    f"{pattern}: outputs up to query {last} change by {change:.3g} when keys from "
                    f"{first_hidden} on change",
                )
    return Verdict(Status.OK, worst)


def no_key(subject: Subject) -> Verdict:
    """A query that may attend to no key: independent of k and v, finite, zero for pure forms."""
    if subject.forward.masks == "none":
        raise Unsupported("it declares that it obeys no mask")
    arguments = subject.arguments()
    batch, k_len = arguments.data["k"].shape[0], arguments.data["k"].shape[2]
    mask = torch.ones(batch, 1, 1, k_len, dtype=torch.bool)
    mask[-1] = False
    arguments = arguments.having(mask=mask.to(subject.device))
    output = subject.output(arguments)
    if not bool(output.isfinite().all()):
        return Verdict(Status.WRONG, reason="the output is not finite")
    after = subject.output(_louder(arguments, ~mask[:, 0, 0, :, None].unsqueeze(1), None))
    change = largest_of(after[-1] - output[-1])
    if change > subject.slack(output):
        return Verdict(Status.WRONG, change, f"the output changes by {change:.3g} with k and v")
    if _is_pure(subject) and bool(output[-1].count_nonzero()):
        largest = largest_of(output[-1])
        return Verdict(Status.WRONG, largest, f"got outputs up to {largest:.3g}, expected zeros")
    return _finite_gradients(subject, arguments)


def with_a_graph(subject: Subject) -> Verdict:
    """The output is the same whether a gradient is wanted or not."""
    if not subject.forward.backward:
        raise Unsupported("this forward declares that it has no backward")
    arguments = subject.arguments()
    expected = subject.output(arguments)
    change = largest_of(arguments.requiring_grad().call(subject.forward.fn).detach() - expected)
    return right_if(
        change <= subject.slack(expected),
        f"outputs change by {change:.3g} when a gradient is wanted",
        change,
    )


def dtype_kept(subject: Subject) -> Verdict:
    """The output has the dtype, the device and the shape that the kind promises."""
    arguments = subject.arguments()
    output = subject.output(arguments)
    first = next(iter(arguments.data.values()))
    shape = list(first.shape)
    if subject.is_attention:
        shape[-1] = arguments.data["v"].shape[-1]
    if getattr(subject.variant, "gated", False):
        shape[-1] //= 2
    got = f"{tuple(output.shape)} {output.dtype} on {output.device.type}"
    expected = f"{tuple(shape)} {first.dtype} on {first.device.type}"
    return right_if(got == expected, f"got {got}, expected {expected}")


def device_kept(subject: Subject) -> Verdict:
    """On another device everything that it makes is made there; seen on tensors without numbers."""
    arguments = subject.arguments()
    try:
        output = on_another_device(subject.forward.fn, arguments)
    except MixedDevicesError as error:
        return Verdict(Status.WRONG, reason=str(error))
    except Exception as error:  # it reads a number, or calls a kernel that knows no such tensors
        raise Unsupported(f"not to be seen without numbers: {brief(error)}") from error
    expected = ELSEWHERE
    got = output.device.type
    return right_if(got == expected, f"inputs on {expected}, the output on {got}")


def not_mutated(subject: Subject) -> Verdict:
    """No argument is changed, neither forward nor backward."""
    arguments = subject.arguments()
    if subject.is_attention and subject.forward.masks != "none":
        keys = arguments.data["k"].shape[2]
        arguments = arguments.having(mask=(torch.arange(keys) > 0).view(1, 1, 1, keys))
        arguments = arguments.to(dtype_of(subject.dtype), subject.device)
    before = {name: (tensor.clone(), tensor._version) for name, tensor in arguments.tensors()}
    for backward in (False, True) if subject.forward.backward else (False,):
        if backward:
            gradients_of(subject.forward.fn, arguments, subject.seed)
        else:
            subject.output(arguments)
        changed = [
            name
            for name, tensor in arguments.tensors()
            if tensor._version != before[name][1] or not torch.equal(tensor, before[name][0])
        ]
        if changed:
            return Verdict(Status.WRONG, reason=f"changed in place: {', '.join(changed)}")
    return Verdict(Status.OK)


def deterministic(subject: Subject) -> Verdict:
    """Two calls on the same arguments agree to the bit."""
    arguments = subject.arguments()
    first, second = subject.output(arguments), subject.output(arguments)
    same = torch.equal(first, second)
    return right_if(same, f"two calls differ by {largest_of(first - second):.3g}")


def global_state_kept(subject: Subject) -> Verdict:
    """A call changes nothing that belongs to the whole process: settings, generators, handlers.

    Neither forward, nor when training, with noise, nor in its backward.
    """
    label = f"{subject.variant.name}:{subject.name}"
    try:
        with torch.no_grad(), guarded(label):
            subject.arguments().call(subject.forward.fn)
        if subject.forward.backward:
            arguments = subject.arguments("", "training")
            with guarded(f"{label} with its backward"):
                gradients_of(subject.forward.fn, arguments, subject.seed)
    except GlobalStateError as error:
        return Verdict(Status.WRONG, reason=str(error))
    return Verdict(Status.OK)


def batch_independent(subject: Subject) -> Verdict:
    """No example of a batch depends on another; nor, but in attention, does a row."""
    arguments = subject.arguments()
    before = subject.output(arguments)
    axes = (0,) if subject.is_attention else (0, 1)
    for axis, changed in itertools.product(axes, (0, -1)):
        data = {name: tensor.clone() for name, tensor in arguments.data.items()}
        for tensor in data.values():
            part = tensor.select(axis, changed)
            part.copy_(LOUD * torch.randn(part.shape, generator=_generator(subject)))
        kept = -1 if changed == 0 else 0
        after = subject.output(arguments.replacing(data)).select(axis, kept)
        change = largest_of(after - before.select(axis, kept))
        if change > subject.slack(before):
            what = ("example", "row")[axis]
            reason = f"the output of one {what} changes by {change:.3g} when another {what} changes"
            return Verdict(Status.WRONG, change, reason)
    return Verdict(Status.OK)


_COMMON: tuple[Check, ...] = (
    non_contiguous,
    with_a_graph,
    single,
    prime,
    options_obeyed,
    extreme,
    far_from_zero,
    dtype_kept,
    device_kept,
    not_mutated,
    deterministic,
    global_state_kept,
    batch_independent,
    arguments_matter,
    fresh_values,
    outputs_kept,
    many_calls,
    computed_at_return,
    same_when_compiled,
    time_of_reference,
    linear_backward,
    gradient_of_each,
    second_derivative,
)
#: The probes of each kind.
PROBES: Mapping[str, tuple[Check, ...]] = {
    "activation": (leading_sizes, *_COMMON, slope_at_kinks, relative_accuracy, special_values),
    "attention": (
        mask_obeyed,
        mask_shapes,
        mask_gradient,
        no_future_leak,
        no_key,
        cross,
        value_size,
        scale_given,
        large_scores,
        *_COMMON,
    ),
    "connection": (branch_called, leading_sizes, *_COMMON),
}


def probes_of(variant: Variant) -> tuple[Check, ...]:
    """Those of its kind, but for what asks of options where it has none."""
    return tuple(
        probe for probe in PROBES[variant.kind] if variant.options or probe is not options_obeyed
    )


def _generator(subject: Subject) -> torch.Generator:
    return torch.Generator().manual_seed(subject.seed + 1)


def _louder(
    arguments: Arguments, where: torch.Tensor, generator: torch.Generator | None
) -> Arguments:
    """Other keys, and other and far larger values, where ``where`` is True."""
    data = {}
    for name, size in (("k", 1.0), ("v", LOUD)):
        old = arguments.data[name]
        new = size * torch.randn(old.shape, generator=generator).to(old)
        data[name] = torch.where(where.to(old.device), new, old)
    return arguments.replacing(data)


def _is_pure(subject: Subject) -> bool:
    """Whether the output is zero where all values are: attention, and nothing added to it."""
    arguments = subject.arguments()
    silent = arguments.replacing({"v": torch.zeros_like(arguments.data["v"])})
    return not bool(subject.output(silent).count_nonzero())


def _finite_gradients(subject: Subject, arguments: Arguments) -> Verdict:
    if not subject.forward.backward:
        return Verdict(Status.OK)
    found = gradients_of(subject.forward.fn, arguments, subject.seed)
    bad = [name for name, gradient in found.items() if not bool(gradient.isfinite().all())]
    return right_if(not bad, f"gradients that are not finite: {', '.join(bad)}")
