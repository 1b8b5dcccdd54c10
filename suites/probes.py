"""Probes: what every forward of a kind must obey, whatever it computes.

Each probe is a function of a :class:`Subject` that returns a :class:`Verdict`; its name is the
name of the metric. None needs an oracle but ``single``, ``prime`` and ``cross``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from bakeoff.registry.binding import draw
from bakeoff.registry.shapes import Shape
from bakeoff.suites.budget import Oracle, gradients_of
from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Check, Subject, Unsupported, Verdict, right_if

__all__ = ["PROBES"]

#: How much larger than normal the values are that must not be seen: a small leak then shows.
LOUD = 100.0
#: The size of extreme inputs; float16 ends at 65504.
EXTREME = {"float16": 30.0}
EXTREME_DEFAULT = 1e3
#: What a forward or a declaration raises for a value that an option does not allow.
_REFUSED = (RuntimeError, ValueError, ArithmeticError, LookupError)


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
    change = _largest(after[quiet] - before[quiet])
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
            change = _largest(after[:, :, : last + 1] - before[:, :, : last + 1])
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
    change = _largest(after[-1] - output[-1])
    if change > subject.slack(output):
        return Verdict(Status.WRONG, change, f"the output changes by {change:.3g} with k and v")
    if _is_pure(subject) and bool(output[-1].count_nonzero()):
        largest = _largest(output[-1])
        return Verdict(Status.WRONG, largest, f"got outputs up to {largest:.3g}, expected zeros")
    return _finite_gradients(subject, arguments)


def non_contiguous(subject: Subject) -> Verdict:
    """Strides make no difference."""
    arguments = subject.arguments()
    expected = subject.output(arguments)
    strided = arguments.map(_strided)
    change = _largest(subject.output(strided) - expected)
    return right_if(
        change <= subject.slack(expected),
        f"outputs change by {change:.3g} with inputs that are not contiguous",
        change,
    )


def single(subject: Subject) -> Verdict:
    """N = 1."""
    sizes = {"q_len": 1, "k_len": 1} if subject.is_attention else {"batch": 1, "seq_len": 1}
    return _as_reference(subject, "", **sizes)


def prime(subject: Subject) -> Verdict:
    """A prime N, larger than the usual block."""
    sizes = {"q_len": 131, "k_len": 131} if subject.is_attention else {"seq_len": 131}
    return _as_reference(subject, "", **sizes)


def cross(subject: Subject) -> Verdict:
    """Fewer keys than queries, and more."""
    verdicts = [
        _as_reference(subject, "cross", q_len=29, k_len=53),
        _as_reference(subject, "cross", q_len=53, k_len=29),
    ]
    return max(verdicts, key=lambda verdict: verdict.value or 0.0)


def extreme(subject: Subject) -> Verdict:
    """Large inputs: outputs and gradients are finite wherever the float64 reference is."""
    case = subject.case()
    size = EXTREME.get(subject.dtype, EXTREME_DEFAULT)

    def enlarge(arguments: Arguments, seed: int) -> Arguments:
        return arguments.replacing({n: t * size for n, t in arguments.data.items()})

    oracle = Oracle(subject.variant, case, prepare=enlarge)
    found = oracle.judge(subject.forward.fn)
    if subject.forward.backward:
        found += Oracle(subject.variant, case, gradients_of, enlarge).judge(subject.forward.fn)
    bad = next((errors for errors in found if not errors.finite), None)
    return right_if(bad is None, f"inputs of size {size:g}: {bad.explain() if bad else ''}", size)


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


def not_mutated(subject: Subject) -> Verdict:
    """No argument is changed, neither forward nor backward."""
    arguments = subject.arguments()
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
    return right_if(same, f"two calls differ by {_largest(first - second):.3g}")


def batch_independent(subject: Subject) -> Verdict:
    """Changing one example of a batch does not change another."""
    arguments = subject.arguments()
    before = subject.output(arguments)
    data = {name: tensor.clone() for name, tensor in arguments.data.items()}
    for tensor in data.values():
        tensor[-1] = LOUD * torch.randn(tensor[-1].shape, generator=_generator(subject)).to(tensor)
    after = subject.output(arguments.replacing(data))
    change = _largest(after[0] - before[0])
    return right_if(
        change <= subject.slack(before[0]),
        f"the output of one example changes by {change:.3g} when another example changes",
        change,
    )


def arguments_matter(subject: Subject) -> Verdict:
    """Every argument changes the output, unless the metadata declares it unused."""
    unused = subject.variant.metadata.unused
    effect: dict[str, bool] = {}
    # With noise and without: a branch that is dropped now has its effect when it is not.
    for direction in ("training", "forward") if subject.forward.backward else ("forward",):
        base = subject.arguments("", direction).off_start(subject.seed)
        before = subject.output(base)
        for name, alternatives in _alternatives(subject, base).items():
            differs = any(_differs(subject, before, changed) for changed in alternatives)
            differs = differs or _matters_elsewhere(subject, base, name)
            effect[name] = differs or effect.get(name, False)
    without_effect = [n for n, differs in effect.items() if not differs and n not in unused]
    with_effect = [n for n, differs in effect.items() if differs and n in unused]
    faults = []
    if without_effect:
        faults.append(f"no effect: {', '.join(without_effect)} (use it, or declare it unused)")
    if with_effect:
        faults.append(f"declared unused, but has an effect: {', '.join(with_effect)}")
    return right_if(not faults, "; ".join(faults))


_COMMON: tuple[Check, ...] = (
    non_contiguous,
    single,
    prime,
    extreme,
    dtype_kept,
    not_mutated,
    deterministic,
    batch_independent,
    arguments_matter,
)
#: The probes of each kind.
PROBES: Mapping[str, tuple[Check, ...]] = {
    "activation": _COMMON,
    "attention": (mask_obeyed, no_future_leak, no_key, cross, *_COMMON),
    "connection": _COMMON,
}


def _generator(subject: Subject) -> torch.Generator:
    return torch.Generator().manual_seed(subject.seed + 1)


def _largest(tensor: torch.Tensor) -> float:
    """The largest absolute value; a NaN counts as infinitely large."""
    if not tensor.numel():
        return 0.0
    return float(tensor.abs().nan_to_num(nan=torch.inf).max())


def _strided(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mT.contiguous().mT if tensor.dim() >= 2 else tensor


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


def _as_reference(subject: Subject, pattern: str, **sizes: Any) -> Verdict:
    errors = Oracle(subject.variant, subject.case(pattern, **sizes)).judge(subject.forward.fn)[0]
    shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
    value = errors.ratio if errors.finite else None
    return right_if(errors.right, f"{shown}: {errors.explain()}", value)


def _alternatives(subject: Subject, base: Arguments) -> dict[str, Iterator[Arguments]]:
    """For each argument, arguments that differ in it alone."""
    found: dict[str, Iterator[Arguments]] = {}
    for name in subject.variant.options:
        found[name] = _under_other_options(subject, base, name)
    for group in ("data", "learned", "given", "fixed"):
        for name, tensor in getattr(base, group).items():
            if isinstance(tensor, torch.Tensor):
                found[name] = _other_tensors(base, name, tensor)
    if base.branch is not None:
        found["branch"] = iter([base.replacing({"branch": -base.branch})])
    if subject.is_attention:
        if subject.grid:
            found["grid"] = iter([_transposed(base)])
        found["scale"] = iter([base.having(scale=0.03)])
        if _can(subject, "causal_self"):
            found["causal"] = iter([base.having(causal=True)])
        if subject.forward.masks != "none":
            mask = torch.ones(1, 1, 1, base.data["k"].shape[2], dtype=torch.bool)
            mask[..., 1::2] = False
            found["mask"] = iter([base.having(mask=mask.to(subject.device))])
    return found


def _transposed(base: Arguments) -> Arguments:
    grid = tuple((width, height) for height, width in base.context["grid"])
    return replace(base, context={**base.context, "grid": grid})


def _under_other_options(subject: Subject, base: Arguments, name: str) -> Iterator[Arguments]:
    """The same arguments with another value of an option, and what is declared under it.

    Parameters are drawn again; inputs and noise only where their size depends on the option.
    """
    shape = subject.case().shape
    size = shape if isinstance(shape, Shape) else shape.features
    known, first = dict(base.tensors()), next(iter(base.data.values()))
    for value in _other_values(base.plain[name]):
        options = {n: base.plain[n] for n in subject.variant.options} | {name: value}
        generator = torch.Generator().manual_seed(subject.seed)
        try:
            drawn = draw(subject.variant, "parameters", size, generator, options)
            for source in ("inputs", "noise"):
                for other, tensor in draw(subject.variant, source, size, None, options).items():
                    if other in known and tensor.shape != known[other].shape:
                        drawn[other] = tensor
        except _REFUSED:
            continue
        like = {n: t.detach().to(first) if t.is_floating_point() else t for n, t in drawn.items()}
        yield base.replacing(like).off_start(subject.seed).having(**{name: value})


def _matters_elsewhere(subject: Subject, base: Arguments, name: str) -> bool:
    """Whether an argument has an effect under another value of an option.

    A window that spans the small sizes hides what is said of the keys beyond it.
    """
    for other in subject.variant.options:
        for elsewhere in _under_other_options(subject, base, other) if other != name else ():
            try:
                before = subject.output(elsewhere)
            except _REFUSED:
                continue
            if not bool(before.isfinite().all()):
                continue  # nor is this a value that the option allows
            alternatives = _alternatives(subject, elsewhere)[name]
            if any(_differs(subject, before, changed) for changed in alternatives):
                return True
    return False


def _can(subject: Subject, pattern: str) -> bool:
    try:
        subject.case(pattern)
    except Unsupported:
        return False
    return True


def _other_values(value: Any) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (1, 2, 0, value + 1, value * 2)
    if isinstance(value, float):
        return (value / 2, value + 0.37, value * 2 + 1, -value)
    return ()


def _other_tensors(base: Arguments, name: str, tensor: torch.Tensor) -> Iterator[Arguments]:
    generator = torch.Generator().manual_seed(1)
    if tensor.is_floating_point():
        change = torch.randn(tensor.shape, generator=generator).to(tensor)
        yield base.replacing({name: tensor - change})  # a threshold may lie on either side
        new = tensor + change
    elif tensor.dtype == torch.bool:
        new = ~tensor
    else:
        new = tensor.flip(tuple(range(tensor.dim())))  # in a row of a set order means nothing
    yield base.replacing({name: new})


def _differs(subject: Subject, before: torch.Tensor, changed: Arguments) -> bool:
    try:
        after = subject.output(changed)
    except (RuntimeError, ValueError, ArithmeticError, LookupError):
        return False  # a value that the option does not allow; others are tried
    if after.shape != before.shape:
        return True
    return _largest(after.double() - before.double()) > 0
