"""Probes of what must make no difference: strides, and how many dimensions are written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from bakeoff.suites.records import Status
from bakeoff.suites.tensors import Arguments
from bakeoff.suites.verdicts import Subject, Unsupported, Verdict, largest_of

__all__ = ["leading_sizes", "mask_shapes", "non_contiguous", "random_mask"]


def non_contiguous(subject: Subject) -> Verdict:
    """How tensors lie in memory makes no difference, neither forward nor backward."""
    arguments = subject.arguments()
    expected = subject.output(arguments)
    for told, lay in _LAYOUTS.items():
        change = largest_of(subject.output(arguments.map(lay)) - expected)
        if change > subject.slack(expected):
            return Verdict(Status.WRONG, change, f"outputs change by {change:.3g} with {told}")
    if not subject.forward.backward:
        return Verdict(Status.OK)
    right = _with_gradient(subject, arguments, torch.Tensor.clone)
    # Some are sums that cancel, and known no better than their terms: the largest of all bounds.
    slack = max((subject.slack(gradient) for gradient in right.values()), default=0.0)
    for told, lay in _LAYOUTS.items():
        found = _with_gradient(subject, arguments, lay)
        for name, gradient in found.items():
            change = largest_of(gradient - right[name])
            if change > slack:
                reason = f"the gradient of {name} changes by {change:.3g} where it is handed {told}"
                return Verdict(Status.WRONG, change, reason)
    return Verdict(Status.OK)


def leading_sizes(subject: Subject) -> Verdict:
    """x (..., F) may have any number of dimensions before its features."""
    arguments = subject.arguments()
    x, expected = arguments.data["x"], subject.output(arguments)
    for shape in ((-1, x.shape[-1]), (1, *x.shape), (*x.shape[:-1], 1, x.shape[-1])):
        found = subject.output(arguments.replacing({"x": x.reshape(shape)}))
        told = f"x of shape {tuple(x.reshape(shape).shape)}"
        if found.numel() != expected.numel() or found.shape[:-1] != x.reshape(shape).shape[:-1]:
            return Verdict(Status.WRONG, reason=f"{told}: the output is {tuple(found.shape)}")
        change = largest_of(found.reshape(expected.shape) - expected)
        if change > subject.slack(expected):
            return Verdict(Status.WRONG, change, f"{told}: outputs change by {change:.3g}")
    return Verdict(Status.OK)


def mask_shapes(subject: Subject) -> Verdict:
    """A mask broadcasts: fewer dimensions, or sizes of 1, mean the same as all of them."""
    level = subject.forward.masks
    if level == "none":
        raise Unsupported("it declares that it obeys no mask")
    arguments = subject.arguments()
    q, k = arguments.data["q"], arguments.data["k"]
    rows = q.shape[2] if level == "full" else 1
    generator = torch.Generator().manual_seed(subject.seed)
    mask = torch.rand(rows, k.shape[2], generator=generator) < 0.7
    mask[:, 0] = True
    mask = mask.to(subject.device)
    heads = q.shape[1] if level == "full" else 1
    expected = subject.output(arguments.having(mask=mask.expand(q.shape[0], heads, -1, -1)))
    for given in (mask, mask[None, None]):
        change = largest_of(subject.output(arguments.having(mask=given)) - expected)
        if change > subject.slack(expected):
            reason = f"outputs change by {change:.3g} with a mask of shape {tuple(given.shape)}"
            return Verdict(Status.WRONG, change, reason)
    return Verdict(Status.OK)


def random_mask(arguments: Arguments, level: str, seed: int) -> torch.Tensor:
    """Three keys of ten are hidden: for all queries alike, or where ``level`` is full for each."""
    q, k = arguments.data["q"], arguments.data["k"]
    queries = q.shape[2] if level == "full" else 1
    heads = q.shape[1] if level == "full" else 1
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(q.shape[0], heads, queries, k.shape[2], generator=generator) < 0.7
    return mask.to(q.device)


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mT.contiguous().mT if tensor.dim() >= 2 else tensor


def _interleaved(tensor: torch.Tensor) -> torch.Tensor:
    """As heads lie that were split from the features of each position."""
    if tensor.dim() < 4:
        return tensor
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


def _within(tensor: torch.Tensor) -> torch.Tensor:
    """A part of a larger tensor: neither its start nor its strides are the usual ones."""
    if not tensor.dim():
        return tensor
    larger = tensor.new_full((*tensor.shape[:-1], tensor.shape[-1] + 3), torch.nan)
    larger[..., 2:-1] = tensor
    return larger[..., 2:-1]


_LAYOUTS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "inputs that are not contiguous (the last two dimensions transposed)": _transposed,
    "inputs that are not contiguous (heads between the positions)": _interleaved,
    "inputs that are a part of larger tensors": _within,
}


def _with_gradient(
    subject: Subject, arguments: Arguments, lay: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The gradient of each leaf, for a gradient of the output that lies so in memory."""
    leaves = arguments.requiring_grad()
    output = leaves.call(subject.forward.fn)
    generator = torch.Generator().manual_seed(subject.seed)
    into = torch.randn(output.shape, generator=generator).to(output)
    named = leaves.leaves()
    found = torch.autograd.grad(output, list(named.values()), lay(into), allow_unused=True)
    return {n: g for n, g in zip(named, found, strict=True) if g is not None}
