"""The backward of a call against differences of the call, element by element, in float64."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch._functorch.config as functorch_config

__all__ = ["compiled_anew", "worst_difference"]

#: The step of the differences, and what they may be away from the backward, as in gradcheck.
_STEP, _ABSOLUTE, _RELATIVE = 1e-6, 1e-5, 1e-3

Call = Callable[..., torch.Tensor]


@contextmanager
def compiled_anew() -> Iterator[None]:
    """Within it compiled code keeps what its backward reads, so that it may run more than once.

    A backward that torch.compile made overwrites ("donated") buffers which nothing else needs, and
    refuses a second backward over one graph, as gradcheck takes. Code that was compiled before
    has its buffers donated already: it is forgotten, and what is compiled here is, too.
    """
    with functorch_config.patch(donated_buffer=False):
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    if "torch._dynamo" in sys.modules:  # nothing was compiled where it was never imported
        torch._dynamo.reset()


def worst_difference(call: Call, leaves: Mapping[str, torch.Tensor]) -> str:
    """Where the derivative that the backward gives is farthest from what it should be, in a line.

    Args:
        call: Takes the leaves in their order.
        leaves: The inputs and parameters, by name.

    Returns:
        The input's name, both places and both numbers; empty where all agree.
    """
    worst, told = 1.0, ""
    for name, leaf in leaves.items():
        got, expected = _by_backward(call, leaves, name), _by_differences(call, leaves, name)
        allowed = _ABSOLUTE + _RELATIVE * expected.abs()
        beyond = ((got - expected).abs() / allowed).nan_to_num(nan=torch.inf)
        if float(beyond.max()) > worst:
            worst = float(beyond.max())
            i, j = divmod(int(beyond.argmax()), leaf.numel())
            output = call(*leaves.values())
            told = (
                f"the gradient of {name}: d output{_place(output, i)} / d {name}{_place(leaf, j)}: "
                f"the backward gives {float(got[i, j]):.6g}, differences of the forward "
                f"{float(expected[i, j]):.6g}"
            )
    return told


def _by_backward(call: Call, leaves: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """The Jacobian, (outputs, elements of the leaf)."""
    leaf, rows = leaves[name], []
    output = call(*leaves.values()).reshape(-1)
    for element in output:
        found = None
        if element.requires_grad:
            (found,) = torch.autograd.grad(element, leaf, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(leaf) if found is None else found)
    return torch.stack([row.reshape(-1) for row in rows])


@torch.no_grad()
def _by_differences(call: Call, leaves: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """Likewise."""
    columns = []
    for j in range(leaves[name].numel()):
        ends = []
        for step in (_STEP, -_STEP):
            moved = leaves[name].detach().clone()
            moved.view(-1)[j] += step
            ends.append(call(*{**leaves, name: moved}.values()))
        columns.append(((ends[0] - ends[1]) / (2 * _STEP)).reshape(-1))
    return torch.stack(columns, 1)


def _place(tensor: torch.Tensor, flat: int) -> list[int]:
    return [int(i) for i in torch.unravel_index(torch.tensor(flat), tensor.shape)]
