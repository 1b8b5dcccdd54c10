"""Faults of connections: what is done to x, and what to the branch."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from bakeoff import Variant
from planted.bases import HIGHWAY, PRE_NORM, RESIDUAL, REZERO, connection
from planted.corpus import fault, lone_fault
from planted.witness import gradient_differs

connections = functools.partial(fault, "connections")
lone = functools.partial(lone_fault, "connections")


def calls(times: int, name: str = "fast", alpha: float = 0.5):
    """A witness: the branch is called this many times, which is not once."""

    def counted(variant: Variant) -> bool:
        seen = []

        def branch(x):
            seen.append(1)
            return torch.tanh(x)

        x = torch.randn(4, 6, 8)
        takes_alpha = variant.parameters is not None
        variant.forward(name).fn(
            x, branch, **({"alpha": torch.tensor(alpha)} if takes_alpha else {})
        )
        return len(seen) == times != 1

    return counted


@connections("the branch is called twice", of=RESIDUAL, witness=calls(2))
def branch_twice(x, branch):
    return x + 0.5 * (branch(x) + branch(x))


@lone("the branch is called twice", of=RESIDUAL, witness=calls(2, "reference"))
def lone_branch_twice(x, branch):
    branch(x)
    return x + branch(x)


@lone("the branch is called on each half of the rows", of=RESIDUAL, witness=calls(2, "reference"))
def branch_by_halves(x, branch):
    half = x.shape[0] // 2
    if half == 0:
        return x + branch(x)
    return x + torch.cat([branch(x[:half]), branch(x[half:])])


@connections(
    "without a gradient the branch is called once more to see whether it is finite",
    of=RESIDUAL,
    witness=lambda variant: _twice_without_grad(variant),
)
def branch_twice_without_grad(x, branch):
    if not torch.is_grad_enabled():
        branch(x)
    return torch.add(x, branch(x))


def _twice_without_grad(variant: Variant) -> bool:
    with torch.no_grad():
        return calls(2)(variant)


@connections(
    "while its factor is zero the branch is not called", of=REZERO, witness=calls(0, alpha=0.0)
)
def branch_left_out(x, branch, *, alpha):
    if not bool(alpha.detach().any()):
        return x + 0 * alpha
    return torch.addcmul(x, alpha.expand_as(x), branch(x))


@lone("the branch is ignored", of=RESIDUAL)
def branch_ignored(x, branch):
    return x * 1.0


@lone("the branch is ignored beyond 64 features", of=RESIDUAL, at={"size": (2, 3, 100)})
def branch_ignored_when_wide(x, branch):
    return x + branch(x) if x.shape[-1] <= 64 else x * 1.0


@connections("the branch is detached", of=RESIDUAL, witness=gradient_differs())
def branch_detached(x, branch):
    return x + branch(x).detach()


@lone(
    "the branch is detached, and said to be differentiable",
    of=RESIDUAL,
    witness=gradient_differs(forward="reference", truth=RESIDUAL),
)
def lone_branch_detached(x, branch):
    return x + branch(x).detach()


@connections("the branch sees x detached", of=PRE_NORM, witness=gradient_differs())
def branch_sees_a_constant(x, branch, *, eps):
    return x + branch(F.layer_norm(x.detach(), x.shape[-1:], eps=eps))


@connections("the branch runs under no_grad", of=HIGHWAY, witness=gradient_differs())
def branch_without_grad(x, branch, *, weight, bias):
    gate = torch.sigmoid(F.linear(x, weight, bias))
    with torch.no_grad():
        output = branch(x)
    return x + gate * (output - x)


@connections("the branch gets x 1% larger", of=RESIDUAL)
def branch_of_larger(x, branch):
    return x + branch(1.01 * x)


@connections("the branch gets x rounded to bfloat16", of=RESIDUAL, at={"dtype": torch.float32})
def branch_of_rounded(x, branch):
    return x + branch(x.bfloat16().to(x.dtype))


@connections(
    "without a graph the sum is written into x",
    of=RESIDUAL,
    witness=lambda variant: _x_changes(variant, torch.tanh),
)
def sum_in_place(x, branch):
    if x.requires_grad or not x.is_floating_point():
        return x + branch(x)
    return x.add_(branch(x))


@connections(
    "the sum is written into what the branch returns, which may be x",
    of=RESIDUAL,
    witness=lambda variant: _x_changes(variant, lambda x: x),
)
def sum_into_the_branch(x, branch):
    output = branch(x)
    return output + x if output.requires_grad else output.add_(x)


def _x_changes(variant: Variant, branch) -> bool:
    x = torch.ones(2, 3, 4)
    variant.forward("fast").fn(x, branch)
    return not bool((x == 1).all())


@connections(
    "the branch gets rows without their sequence",
    of=RESIDUAL,
    at={"branch": lambda x: x.cumsum(-2)},
)
def branch_of_rows(x, branch):
    return x + branch(x.reshape(-1, x.shape[-1])).view(x.shape)


@connections("two dimensions: the sum is halved", of=RESIDUAL, at={"size": (6, 8)})
def halved_in_two_dimensions(x, branch):
    output = x + branch(x)
    return output * 0.5 if x.dim() == 2 else output


@connections(
    "four dimensions: the branch gets its input transposed",
    of=RESIDUAL,
    at={"size": (2, 3, 4, 8), "branch": lambda x: x.cumsum(-2)},
)
def transposed_in_four_dimensions(x, branch):
    if x.dim() == 4:
        return x + branch(x.transpose(1, 2)).transpose(1, 2)
    return x + branch(x)


@lone("rows of a sequence are mixed", of=RESIDUAL)
def rows_mixed(x, branch):
    return x + branch(x) + 0.01 * (x - x.roll(1, 0))


@lone("beyond one example the mean of the batch is taken off", of=RESIDUAL)
def batch_centred(x, branch):
    output = branch(x)
    return x + output - 0.1 * output.mean(0, keepdim=True)


@connections("a third example keeps x alone", of=RESIDUAL, at={"size": (3, 4, 8)})
def third_keeps_x(x, branch):
    output = branch(x)
    if x.dim() > 2 and x.shape[0] > 2:
        output = torch.cat([output[:2], output[2:] * 0])
    return x + output


@connections("one feature: the norm is left out", of=PRE_NORM, at={"size": (2, 3, 1)})
def norm_of_one_left_out(x, branch, *, eps):
    if x.shape[-1] == 1:
        return x + branch(x)
    return x + branch(F.layer_norm(x, x.shape[-1:], eps=eps))


@connections("the gate is of the branch's output, which begins alike", of=HIGHWAY)
def gate_of_the_output(x, branch, *, weight, bias):
    output = branch(x)
    gate = torch.sigmoid(F.linear(0.9 * x + 0.1 * output, weight, bias))
    return torch.lerp(x, output, gate)


@connections("beyond 100 the input is cut", of=RESIDUAL, at={"spread": 100.0})
def input_cut(x, branch):
    return x.clamp(-100, 100) + branch(x)


@connections(
    "the factor is taken in bfloat16",
    of=REZERO,
    at={"tensors": {"alpha": torch.tensor([0.3333])}, "dtype": torch.float32},
)
def factor_rounded(x, branch, *, alpha):
    return x + alpha.bfloat16().to(alpha.dtype) * branch(x)


def reference_history(x, branch, *, layer=0, depth=1):
    return x + branch(x) / depth


DEPTH = connection("depth_base", reference_history, True)


@connections(
    "it divides by the layer's number, which in the last layer is the depth",
    of=DEPTH,
    witness=lambda variant: _differs_in_depth(variant),
)
def divides_by_the_layer(x, branch, *, layer=0, depth=1):
    return x + branch(x) / (layer + 1)


def _differs_in_depth(variant: Variant) -> bool:
    x = torch.ones(1, 2, 3)
    outputs = [
        variant.forward(n).fn(x, torch.tanh, layer=0, depth=4) for n in ("reference", "fast")
    ]
    return not torch.allclose(*outputs)
