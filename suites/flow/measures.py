"""What is measured in a stack: pure functions of tensors and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bakeoff.suites.flow.quadrature import Curve, steepest

__all__ = [
    "Spectrum",
    "attention_entropy",
    "dead_fraction",
    "grad_norm_exponent",
    "grad_norm_ratio",
    "jacobian",
    "rank_residual",
    "saturated_fraction",
    "spectrum",
]

#: A unit is saturated where its slope is less than this share of the steepest.
SATURATED = 0.05


def grad_norm_ratio(norms: Sequence[float]) -> float:
    """The gradient's norm at the first layer ÷ at the last: 1 where it arrives undiminished.

    Example:
        >>> grad_norm_ratio([0.25, 0.5, 1.0])
        0.25
    """
    first, last = norms[0], norms[-1]
    if not (math.isfinite(first) and math.isfinite(last)):
        return math.nan
    return first / last if last > 0 else math.inf if first > 0 else 0.0


def grad_norm_exponent(norms: Sequence[float]) -> float:
    """a in ratio = e^(a (L − 1)): below 0 the gradient vanishes with depth, above it explodes.

    Example:
        >>> round(grad_norm_exponent([0.25, 0.5, 1.0]), 4)
        -0.6931
    """
    ratio = grad_norm_ratio(norms)
    return -math.inf if ratio == 0 else math.log(ratio) / (len(norms) - 1)


def dead_fraction(outputs: Sequence[torch.Tensor]) -> float:
    """Units that are exactly zero on all data, as a share of all units of all layers.

    Args:
        outputs: (…, F) of each layer; all but the last dimension are data.

    Example:
        >>> dead_fraction([torch.tensor([[0.0, 1.0], [0.0, 0.0]])])
        0.5
    """
    dead = torch.cat([(y == 0).flatten(0, -2).all(0) for y in outputs])
    return float(dead.double().mean())


def saturated_fraction(
    pre_activations: Sequence[torch.Tensor], curve: Curve, threshold: float = SATURATED
) -> float:
    """Where |φ'| is below ``threshold`` · sup |φ'|, as a share of all pre-activations.

    Half of ReLU's units are, by this (Gulcehre et al., 2016, section 2, call it hard saturation).
    An activation whose slope has no bound never saturates above.

    Args:
        pre_activations: h of each layer, of any shape.
        curve: The activation.
        threshold: The share.

    Example:
        >>> from bakeoff.suites.flow.quadrature import curve_of
        >>> saturated_fraction([torch.tensor([-9.0, 0.0, 1.0, 9.0])], curve_of(torch.sigmoid))
        0.5
    """
    h = torch.cat([h.detach().flatten() for h in pre_activations]).double()
    largest = steepest(curve)
    slopes = torch.from_numpy(curve(h.numpy())[1]).abs()
    bound = threshold * (largest if math.isfinite(largest) else 1.0)
    return float((slopes < bound).double().mean())


def rank_residual(x: torch.Tensor) -> float:
    """‖X − 1 x̄ᵀ‖ / ‖X‖ in Frobenius norm, averaged over the batch: 0 where all rows are equal.

    Dong et al. (2021), section 2.1, with the norm in which the mean x̄ is the nearest row.

    Args:
        x: (…, N, F).

    Example:
        >>> rank_residual(torch.ones(4, 3)), rank_residual(torch.tensor([[1.0], [-1.0]]))
        (0.0, 1.0)
    """
    x = x.detach()
    residual = torch.linalg.matrix_norm(x - x.mean(-2, keepdim=True))
    return float((residual / torch.linalg.matrix_norm(x)).mean())


def attention_entropy(weights: torch.Tensor) -> float:
    """−Σ_j a_j ln a_j in nats, averaged over queries: ln N where attention is uniform.

    Args:
        weights: (…, Nk), each row a distribution.

    Example:
        >>> round(attention_entropy(torch.full((3, 8), 1 / 8)) / math.log(8), 6)
        1.0
    """
    return float(torch.special.entr(weights.detach()).sum(-1).mean())


@dataclass(frozen=True)
class Spectrum:
    """The squared singular values of a Jacobian J: the eigenvalues of J Jᵀ.

    Args:
        largest: The largest.
        smallest: The smallest.
        mean: Their mean; 1 where J keeps the length of a random vector.
        variance: Their variance.
    """

    largest: float
    smallest: float
    mean: float
    variance: float


def jacobian(fn: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The derivative of every output by every input at one x, (outputs, inputs).

    A batch of as many copies as there are outputs: each goes backward from another output, all at
    once.

    Args:
        fn: Maps (B, …) to (B, …), each entry of the batch alone.
        x: One input (…) without a batch.

    Example:
        >>> jacobian(torch.nn.ReLU(), torch.tensor([1.0, -1.0]))
        tensor([[1., 0.],
                [0., 0.]])
    """
    with torch.no_grad():
        size = fn(x[None])[0].numel()
    copies = x.detach().expand(size, *x.shape).clone().requires_grad_()
    outputs = fn(copies).reshape(size, -1)
    (rows,) = torch.autograd.grad(outputs.diagonal().sum(), copies)
    return rows.reshape(size, -1)


def spectrum(matrix: torch.Tensor) -> Spectrum:
    """The :class:`Spectrum` of a Jacobian.

    Raises:
        ValueError: Where the matrix is not finite.

    Example:
        >>> spectrum(torch.diag(torch.tensor([2.0, 1.0])))
        Spectrum(largest=4.0, smallest=1.0, mean=2.5, variance=2.25)
    """
    if not matrix.isfinite().all():
        raise ValueError("the Jacobian is not finite")
    values = torch.linalg.svdvals(matrix).square()
    return Spectrum(
        float(values.max()),
        float(values.min()),
        float(values.mean()),
        float(values.var(correction=0)),
    )
